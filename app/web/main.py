"""The web application: one page that shows the fleet, and health for whoever watches.

Sessions, roles and everything that changes something come with the full dashboard; until then
nothing here writes, and `paceline up` listens on loopback only.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app import log
from app.clock import utcnow
from app.community.feed import latest_posts
from app.db import make_engine
from app.runs.progress import read_progress
from app.settings import Settings, get_settings
from app.wiring import find_addresses

HERE = Path(__file__).parent
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def create() -> FastAPI:
    """The application of a web process, from the environment."""
    settings = get_settings()
    log.configure(settings.log)
    return create_app(settings, make_engine(find_addresses(settings).database_url))


def create_app(settings: Settings, engine: Engine) -> FastAPI:
    """The application around an engine."""
    app = FastAPI(title="Paceline", docs_url=None, redoc_url=None, openapi_url=None)
    pages = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.middleware("http")
    async def _secure(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/", response_class=HTMLResponse)
    def overview() -> str:
        now = utcnow()
        since = now - timedelta(seconds=settings.cycle.period_s)
        with engine.connect() as connection:
            progress = read_progress(connection, settings, now, since)
            posts = latest_posts(connection)
        return pages.get_template("overview.html").render(
            progress=progress, posts=posts, period_s=settings.cycle.period_s
        )

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
