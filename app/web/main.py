"""The dashboard and the JSON API: server-rendered pages over the reports that the command line prints.

Closed: without signing in there is only the sign-in page. No script, no style and no font that is not
served from here, and nothing that needs the script.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app import log, tracing
from app.accounts.oidc import Provider
from app.accounts.passwords import Busy
from app.admission.circuit import StoreAway
from app.errors import ConfigError, NotFound, PacelineError, Unreachable
from app.models import Role
from app.runs.services import Services
from app.settings import get_settings
from app.web import api, metrics
from app.web.access import Forbidden, SecondFactorNeeded, SignInNeeded, guard, sign_in_address
from app.web.pages import (
    account,
    accounts,
    acts,
    agents,
    company,
    feed,
    limits,
    overview,
    runs,
    signing_in,
    trouble,
    usage,
)
from app.web.shield import Shield
from app.web.site import HERE, Site, route_path
from app.web.watcher import watching
from app.wiring import build

logger = log.get_logger(__name__)
BODY_MAX = 256 * 1024
STATUS: dict[type[Exception], int] = {
    Forbidden: 403,
    NotFound: 404,
    ConfigError: 422,
    Unreachable: 503,
    Busy: 503,
    StoreAway: 503,
    RedisError: 503,
    DataError: 422,
    SQLAlchemyError: 503,
}
SAID = {
    400: ("That was not understood.", "Go back and try again."),
    403: ("You may not do this.", "An administrator can change what you may."),
    404: ("There is no such page.", "The pages are named above."),
    405: ("Not like this.", "Use the buttons of the pages."),
    413: ("That is too much at once.", "256 KiB are the most; do it in several parts."),
    422: ("That is not possible.", "Go back and look at what was given."),
    429: ("Too many tries.", "Wait a minute, then try again."),
    500: ("Something broke here.", "It is in the dashboard's log, with its time. Runs are not affected."),
    503: ("A server does not answer.", "Runs wait, nothing is lost. `paceline doctor` says what is wrong."),
}


def create() -> FastAPI:
    """The application of a web process, from the environment."""
    settings = get_settings()
    log.configure(settings.log)
    tracing.configure(settings.tracing, "web")
    return create_app(build(settings, needs_gateway=False))  # it calls none


def create_app(services: Services) -> FastAPI:
    """The application around the services of its process."""
    web, oidc = services.settings.web, services.settings.oidc
    site = Site(services, oidc=Provider(oidc, web.url) if oidc.issuer else None)
    app = FastAPI(
        title="Paceline",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=watching(services),
        max_body_size=BODY_MAX,
        redirect_slashes=False,
    )
    is_https = web.url.startswith("https://")
    app.add_middleware(
        Shield, prefix=web.prefix, is_https=is_https, hosts=web.hosts, broken=partial(broken, site)
    )
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    _add_errors(app, site)
    _add_health(app, site)
    open_pages = APIRouter(include_in_schema=False)
    signing_in.add(open_pages, site)
    company.add_open(open_pages, site)
    app.include_router(open_pages)
    pages = APIRouter(include_in_schema=False, dependencies=[guard(site, Role.VIEWER)])
    for module in (overview, usage, agents, runs, feed, limits, trouble, account, accounts):
        add: Callable[[APIRouter, Site], None] = module.add
        add(pages, site)
    app.include_router(pages)
    acts.add(app, site)
    api.add(app, site)
    metrics.add(app, site)
    return app


def is_for_programs(request: Request) -> bool:
    """Whether who asks reads JSON, not pages."""
    return route_path(request).startswith((api.PREFIX, "/metrics"))


def error_answer(site: Site, request: Request, status: int, detail: str) -> Response:
    """A page that says what to do, or for programs a line."""
    said, mend = SAID.get(status, ("That did not work.", "Go back and try again."))
    if is_for_programs(request):
        return JSONResponse({"detail": detail or said}, status)
    return site.page(
        "error.html",
        request,
        status,
        said=said,
        mend=f"{detail[:1].upper()}{detail[1:]}. {mend}" if detail else mend,
    )


def broken(site: Site, request: Request) -> Response:
    """Answer for an error that nobody thought of; called while its exception is handled."""
    route = getattr(request.scope.get("route"), "path", "?")  # not the path: it may hold a secret
    logger.exception("web.broke", route=route)
    return error_answer(site, request, 500, "")


def _add_errors(app: FastAPI, site: Site) -> None:
    """Every error is a page that says what to do, or for programs a line."""
    answer = partial(error_answer, site)

    @app.exception_handler(SignInNeeded)
    def _sign_in(request: Request, error: Exception) -> Response:
        path = route_path(request)
        if is_for_programs(request):
            return JSONResponse({"detail": str(error)}, 401, {"WWW-Authenticate": "Bearer"})
        return site.go(sign_in_address(request, path if request.method == "GET" else "/"))

    @app.exception_handler(SecondFactorNeeded)
    def _set_up(request: Request, error: Exception) -> Response:
        if is_for_programs(request):
            return JSONResponse({"detail": str(error)}, 403)
        return site.go("/account")

    def _known(request: Request, error: Exception) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        is_ours = isinstance(error, PacelineError)
        if not is_ours:
            route = getattr(request.scope.get("route"), "path", "?")  # not the path: it may hold a secret
            logger.error("web.failed", route=route, error=str(error).splitlines()[0])
        return answer(request, status, str(error) if is_ours else "")

    for kind in (PacelineError, StoreAway, RedisError, SQLAlchemyError):
        app.add_exception_handler(kind, _known)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [f"{'.'.join(map(str, p['loc'][1:]))}: {p['msg']}" for p in error.errors()]
        return answer(request, 422, "; ".join(problems)[:500])

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = answer(request, error.status_code, "")
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    def _gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it


def _add_health(app: FastAPI, site: Site) -> None:
    """For load balancers and container health checks; they tell nothing of the fleet. These answer whatever
    holds the threads of the pages: they have a thread of their own.
    """
    own = ThreadPoolExecutor(1, "health")

    @app.api_route("/health/live", methods=["GET", "HEAD"], include_in_schema=False)
    async def live() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.api_route("/health/ready", methods=["GET", "HEAD"], include_in_schema=False)
    async def ready() -> JSONResponse:
        if await asyncio.get_running_loop().run_in_executor(own, _does_database_answer, site.engine):
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "database unreachable"}, status_code=503)


def _does_database_answer(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError:
        return False
    return True
