"""The JSON API under /api/v1: the facts of the pages and the same acts, for programs.

Times are ISO 8601 in UTC, money is micro-dollars (millionths), tokens are LLM tokens. Errors are
`{"detail": ...}` with a status that says whose turn it is: 401, 403, 404, 422, or 503 when a server is away.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from app.actions import ACTIONS, Action, Who
from app.actions.inputs import Input
from app.admission.limits import Limits, read_limits
from app.admission.state import State
from app.agents import roster
from app.alerts.incidents import list_incidents
from app.alerts.outbox import list_alerts
from app.audit_log import Change, list_changes
from app.clock import utcnow
from app.community.budgets import Budget, list_budgets
from app.community.review import Item, list_content
from app.controls import Controls, read_controls
from app.errors import NotFound, NotYet
from app.integration.history import Step, of_run
from app.integration.standing import Standing, read_standing
from app.models import AgentState, ContentState, Role
from app.runs import jobs
from app.runs.demand import demand_of
from app.runs.explain import Explanation, explain
from app.runs.progress import read_progress
from app.runs.report import ListedRun, RunReport, find_run, list_runs
from app.usage.explore import Asked, explore
from app.usage.latency import latency_between
from app.usage.projection import workers_for
from app.usage.reports import Usage
from app.usage.rollups import midnight
from app.web.access import api_guard, guard, require
from app.web.pages.overview import Overview, read_overview
from app.web.pages.runs import STATES, Which, cursor_of, parse_cursor
from app.web.site import Site

PREFIX = "/api/v1"
LATENCY_MS = 2_000
"""Assumed before the first answer."""
Limit = Annotated[int, Query(ge=1, le=1_000)]
Text = Annotated[str, Query(max_length=80)]
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"description": "no token, or one that is not known"},
    403: {"description": "the token's role is too low"},
    404: {"description": "there is no such thing"},
    503: {"description": "a server does not answer"},
}


@dataclass(frozen=True, slots=True)
class UsageOf:
    """Usage of one agent, community, type, model or outcome."""

    name: str
    usage: Usage
    before: int | None


class UsageQuestion(Asked):
    """The words of a question, and how many rows."""

    limit: int = Field(100, ge=1, le=1_000)


@dataclass(frozen=True, slots=True)
class UsageBreakdown:
    """Usage from the day `since` to the day `until`. `rest` is what the rows leave out of `total`; `before`:
    the metric in as many days before, None of a row that was ranked earlier, at `ranked_at`.
    """

    as_of: datetime
    ranked_at: datetime | None
    start: datetime
    since: date
    until: date
    rows: list[UsageOf]
    rest: Usage
    total: Usage
    before: int


@dataclass(frozen=True, slots=True)
class AgentPage:
    """Agents by handle; `next_after` goes into `after` for the next page. `total`: of the whole fleet."""

    agents: list[roster.Listed]
    total: int
    next_after: str | None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs by when they fell due; `next_before` goes into `before` for the next page."""

    runs: list[ListedRun]
    next_before: str | None


@dataclass(frozen=True, slots=True)
class InForce:
    """Return what may be called, spent and published; `admission` is null when Redis does not answer."""

    limits: Limits
    budgets: list[Budget]
    controls: Controls
    admission: State | None


@dataclass(frozen=True, slots=True)
class Scale:
    """How many workers the fleet can use now. `workers_at_cap`: more add nothing."""

    calls_per_s: float
    latency_s: float
    open_runs: int
    workers: int
    workers_at_cap: int


@dataclass(frozen=True, slots=True)
class Me:
    """Return the owner of the token."""

    name: str
    role: Role


class Done(BaseModel):
    """How many it was done to."""

    done: int
    note: str | None = None
    """When it takes effect, if that is not now; there is nothing to repeat."""
    shown: dict[str, str] | None = None
    """Secret that is shown this once: the secret of a new webhook."""


def add(app: FastAPI, site: Site) -> None:
    """Add the API, its description, and the page about it."""
    router = APIRouter(
        prefix=PREFIX, dependencies=[api_guard(site, Role.VIEWER)], responses=REFUSED, tags=["look"]
    )
    _add_fleet(router, site)
    _add_usage(router, site)
    app.include_router(router)
    for action in ACTIONS:
        app.include_router(_act(site, action), prefix=PREFIX)

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False, dependencies=[api_guard(site, Role.VIEWER)])
    def description() -> dict[str, Any]:
        return describe(app, site)

    @app.get("/api", include_in_schema=False, dependencies=[guard(site, Role.VIEWER)])
    def page(request: Request) -> HTMLResponse:
        calls = [
            (method.upper(), path, str(call.get("summary", "")))
            for path, methods in describe(app, site)["paths"].items()
            for method, call in methods.items()
        ]
        return site.page("api.html", request, calls=calls, url=site.settings.web.url)


def describe(app: FastAPI, site: Site) -> dict[str, Any]:
    """The OpenAPI document."""
    document = get_openapi(
        title="Paceline",
        version="1",
        description=__doc__ or "",
        routes=app.routes,
        servers=[{"url": site.settings.web.prefix or "/"}],
    )
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document


def _add_fleet(router: APIRouter, site: Site) -> None:
    @router.get("/me", summary="Whose token this is")
    def me(request: Request) -> Me:
        return Me(request.state.person.name, request.state.person.role)

    @router.get("/overview", summary="How the fleet is doing")
    def overview() -> Overview:
        seen = site.look()
        with site.engine.connect() as connection:
            return read_overview(site, connection, seen, utcnow())

    @router.get("/scale", summary="How many workers the fleet can use")
    def scale() -> Scale:
        now, settings = utcnow(), site.settings
        with site.engine.connect() as connection:
            progress = read_progress(connection, settings, now, now)
            latency = latency_between(connection, now - timedelta(days=1), now)
        latency_s = (latency.p95_ms or LATENCY_MS) / 1_000
        planned = demand_of(progress.active_agents, progress.rate, settings).calls_per_day / 86_400
        # Return the workers that would serve the waiting runs within a slice.
        waiting = progress.open_runs / settings.cycle.slice_length_s
        wanted = min(progress.rate, max(planned, waiting))
        threads = settings.worker.threads
        return Scale(
            calls_per_s=round(wanted, 3),
            latency_s=latency_s,
            open_runs=progress.open_runs,
            workers=workers_for(wanted, latency_s, threads),
            workers_at_cap=workers_for(progress.rate, latency_s, threads),
        )

    @router.get("/agents", summary="Agents by handle")
    def agents(
        search: Text = "", state: AgentState | None = None, after: Text = "", limit: Limit = 100
    ) -> AgentPage:
        search, after = (value.replace("\x00", "") for value in (search, after))
        with site.engine.connect() as connection:
            found = roster.list_agents(connection, after=after, limit=limit, search=search, state=state)
            total = roster.count_agents(connection)
        return AgentPage(found, total, found[-1].handle if len(found) == limit else None)

    @router.get("/agents/{handle}", summary="One agent")
    def agent(handle: str) -> roster.Shown:
        with site.engine.connect() as connection:
            roster.find_known(connection, handle)
            found = roster.show_agent(connection, handle)
        assert found is not None
        return found

    @router.get("/agents/{handle}/explanation", summary="Why it has not run")
    def explanation(handle: str) -> Explanation:
        with site.engine.connect() as connection:
            agent_id = roster.find_known(connection, handle)
        return explain(site.services, agent_id, utcnow())

    @router.get("/runs", summary="Runs by when they fell due, the latest first")
    def runs(which: Which = Which.ALL, before: Text = "", limit: Limit = 50) -> RunPage:
        with site.engine.connect() as connection:
            found = list_runs(connection, states=STATES[which], before=parse_cursor(before), limit=limit)
        return RunPage(found, cursor_of(found[-1]) if len(found) == limit else None)

    @router.get("/runs/{run_id}", summary="One run with its calls and what it made")
    def run(run_id: UUID) -> RunReport:
        with site.engine.connect() as connection:
            found = find_run(connection, run_id)
        if found is None:
            raise NotFound("no such run")
        return found

    @router.get("/runs/{run_id}/deliveries", summary="Where what a run made went, and how soon")
    def steps(run_id: UUID) -> list[Step]:
        with site.engine.connect() as connection:
            if find_run(connection, run_id) is None:
                raise NotFound("no such run")
            return of_run(connection, run_id)

    @router.get("/content", summary="Posts and comments, the newest first")
    def content(
        state: ContentState | None = None, before: UUID | None = None, limit: Limit = 50
    ) -> list[Item]:
        with site.engine.connect() as connection:
            return list_content(connection, state=state, before=before, limit=limit)


def _add_usage(router: APIRouter, site: Site) -> None:
    settings = site.settings

    @router.get("/usage", summary="Usage by something over some days, of what is chosen, the most first")
    def usage(asked: Annotated[UsageQuestion, Query()]) -> UsageBreakdown:
        now = utcnow()
        with site.engine.connect() as connection:
            found = explore(connection, asked.question(now, settings.zone), now, settings.zone, asked.limit)
        question = found.question
        return UsageBreakdown(
            as_of=found.as_of,
            ranked_at=found.ranked_at,
            start=midnight(question.since, settings.zone),
            since=question.since,
            until=question.until,
            rows=[UsageOf(row.name, row.usage, row.before) for row in found.rows],
            rest=found.rest,
            total=found.total,
            before=found.before,
        )

    @router.get("/limits", summary="Limits, budgets and controls in force")
    def limits() -> InForce:
        state = site.look().state
        with site.engine.begin() as connection:
            return InForce(
                read_limits(connection, settings.limits),
                list_budgets(connection),
                read_controls(connection, settings.controls),
                state,
            )

    @router.get("/incidents", summary="Refusals of the gateway that belong together")
    def incidents(limit: Limit = 50) -> list[dict[str, Any]]:
        with site.engine.connect() as connection:
            return list_incidents(connection, limit)

    @router.get("/receivers", summary="The application and webhooks: what waits, what did not arrive")
    def receivers() -> list[Standing]:
        with site.engine.connect() as connection:
            return read_standing(connection)

    @router.get("/alerts", summary="Messages, and whether they arrived")
    def alerts(limit: Limit = 50) -> list[dict[str, Any]]:
        with site.engine.connect() as connection:
            return list_alerts(connection, limit)

    @router.get("/audit", summary="Who changed what, the newest first")
    def audit(before: UUID | None = None, limit: Limit = 50) -> list[Change]:
        with site.engine.connect() as connection:
            return list_changes(connection, before=before, limit=limit)

    @router.get("/health", summary="When each periodic job last did its work")
    def health() -> list[jobs.LastRound]:
        with site.engine.connect() as connection:
            return jobs.last_rounds(connection)


def _act(site: Site, action: Action) -> APIRouter:
    router = APIRouter(dependencies=[api_guard(site, action.role)], responses=REFUSED, tags=["act"])

    def do(request: Request, ask: Input) -> Done:
        require(site, request, request.state.person, action.role_for(site.desk, ask))
        try:
            done = action.run(site.desk, ask, Who(request.state.person.name, ask.reason))
            return Done(done=done.count, shown=dict(done.shown) or None)
        except NotYet as why:
            return Done(done=why.done, note=str(why))

    do.__annotations__["ask"] = action.ask
    summary = f"{action.title} (role {action.role})"
    router.post(
        f"/acts/{action.name}",
        summary=summary,
        description=action.about,
        operation_id=action.name.replace("-", "_"),
        response_model_exclude_none=True,
    )(do)
    return router
