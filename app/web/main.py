"""The dashboard: read-only pages over the same reports that the command line prints.

Nothing here writes; acting is the command line's. Without PACELINE_WEB__PASSWORD `paceline up` listens
on loopback only. No script, no style and no font that is not served from here.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from app import log
from app.agents import roster
from app.alerts.incidents import list_incidents
from app.alerts.outbox import list_alerts
from app.clock import utcnow
from app.community.feed import latest_posts
from app.runs import jobs
from app.runs.demand import planned_demand
from app.runs.explain import explain
from app.runs.progress import read_progress
from app.runs.report import runs_of_agent
from app.runs.services import Services
from app.settings import get_settings
from app.usage.denials import denied_between
from app.usage.forecast import forecast
from app.usage.latency import latency_between
from app.usage.reports import Group, breakdown, hourly, period_start, periods
from app.web.access import is_allowed
from app.web.charts import Bar, bar_chart
from app.web.operations import add_operations
from app.web.watcher import watching
from app.wiring import build

HERE = Path(__file__).parent
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PERIODS = {"today": "today", "week": "this week", "month": "this month"}
PAGE = 100


def create() -> FastAPI:
    """The application of a web process, from the environment."""
    settings = get_settings()
    log.configure(settings.log)
    return create_app(build(settings))


def create_app(services: Services) -> FastAPI:
    """The application around the services of its process."""
    settings, engine = services.settings, services.engine
    app = FastAPI(
        title="Paceline",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=watching(services),
    )
    pages = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined
    )
    pages.filters |= {"moment": _moment, "money": _money, "age": _age}
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.middleware("http")
    async def _secure(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if is_allowed(request, settings.web):
            response = await call_next(request)
        else:
            response = Response(
                "a password is needed", 401, {"WWW-Authenticate": 'Basic realm="Paceline"'}
            )
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(SQLAlchemyError)
    def _no_database(request: Request, error: Exception) -> HTMLResponse:
        return page("error.html", request, 503, said="PostgreSQL does not answer.",
                    mend="Runs wait and nothing is lost. `paceline doctor` says what is wrong.")  # fmt: skip

    def page(template: str, request: Request, status: int = 200, **facts: Any) -> HTMLResponse:
        root = "../" * (request.url.path.count("/") - 1)
        html = pages.get_template(template).render(
            root=root or "./", now=utcnow(), zone=settings.timezone, **facts
        )
        return HTMLResponse(html, status)

    @app.get("/")
    def overview(request: Request) -> HTMLResponse:
        now = utcnow()
        since = now - timedelta(seconds=settings.cycle.period_s)
        with engine.connect() as connection:
            return page(
                "overview.html", request,
                progress=read_progress(connection, settings, now, since),
                periods=periods(connection, now, settings.zone),
                posts=latest_posts(connection, 10),
                incidents=[i for i in list_incidents(connection, 5) if not i["closed_at"]],
                chart=_requests_by_hour(connection, now),
                period_s=settings.cycle.period_s,
                patience_s=jobs.longest_silence(settings).total_seconds(),
            )  # fmt: skip

    def _requests_by_hour(connection: Connection, now: datetime) -> str:
        bars = [
            Bar(f"{hour.astimezone(settings.zone):%H}h", count)
            for hour, count in hourly(connection, now, settings.zone, 24)
        ]
        return bar_chart("Gateway requests per hour, last 24 hours", "requests", bars)

    def _is_silent(connection: Connection) -> bool:
        silence = jobs.scheduler_silence(connection)
        return silence is not None and silence > jobs.longest_silence(settings)

    @app.get("/usage")
    def usage(request: Request, by: Group = Group.AGENT, period: str = "today") -> HTMLResponse:
        now = utcnow()
        name = PERIODS.get(period, "today")
        with engine.connect() as connection:
            start = period_start(name, now, settings.zone)
            return page(
                "usage.html", request, by=by, period=name, groups=list(Group), choices=PERIODS,
                periods=periods(connection, now, settings.zone),
                rows=breakdown(connection, start, now, by, settings.zone, PAGE),
                latency=latency_between(connection, start, now),
                denied=denied_between(connection, start, now),
                forecast=forecast(connection, settings.usage, planned_demand(connection, settings), now,
                                  settings.zone),
            )  # fmt: skip

    @app.get("/agents")
    def agents(
        request: Request,
        search: Annotated[str, Query(max_length=80)] = "",
        after: Annotated[str, Query(max_length=80)] = "",
    ) -> HTMLResponse:
        search, after = (value.replace("\x00", "") for value in (search, after))
        with engine.connect() as connection:
            found = roster.list_agents(connection, after=after, limit=PAGE, search=search)
            total = roster.count_agents(connection)
        return page("agents.html", request, agents=found, total=total, search=search,
                    next_after=found[-1].handle if len(found) == PAGE else None)  # fmt: skip

    @app.get("/agents/{handle}")
    def agent(request: Request, handle: str) -> HTMLResponse:
        with engine.connect() as connection:
            agent_id = roster.find_agent(connection, handle)
            if agent_id is None:
                return page("error.html", request, 404, said="There is no such agent.",
                            mend="The list of agents has a search.")  # fmt: skip
            runs = runs_of_agent(connection, agent_id, 30)
        return page("agent.html", request, found=explain(services, agent_id, utcnow()), runs=runs)

    @app.get("/incidents")
    def incidents(request: Request) -> HTMLResponse:
        with engine.connect() as connection:
            return page("incidents.html", request, incidents=list_incidents(connection),
                        alerts=list_alerts(connection), has_channel=bool(settings.alerts.urls))  # fmt: skip

    add_operations(app, services, page)

    @app.get("/health")
    def health(request: Request) -> HTMLResponse:
        with engine.connect() as connection:
            return page("health.html", request, jobs=jobs.last_rounds(connection),
                        is_silent=_is_silent(connection))  # fmt: skip

    @app.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready")
    def ready() -> JSONResponse:
        try:
            with engine.connect() as connection:
                connection.execute(text("select 1"))
        except SQLAlchemyError:
            return JSONResponse({"status": "database unreachable"}, status_code=503)
        return JSONResponse({"status": "ok"})

    return app


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "never"


def _money(micros: int | None) -> str:
    if micros is None:
        return "unknown"
    dollars = micros / 1e6
    return f"${dollars:,.2f}" if dollars >= 1 or not micros else f"${dollars:.4f}"


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
