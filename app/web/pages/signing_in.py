"""Signing in, and links of invitations."""

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import evidence, invitations, people, second_factor, sessions, throttle
from app.accounts.passwords import Busy
from app.accounts.throttle import Throttled
from app.errors import ConfigError, NotFound
from app.web.access import (
    COOKIE,
    cookie_of,
    field_of,
    open_form,
    safe_next,
    set_cookie,
    set_device,
    visitor_of,
)
from app.web.site import Site

GONE = "This link was used, or is too old."


def add(router: APIRouter, site: Site) -> None:
    """Add the pages for whoever is not signed in."""
    form = open_form(site)

    @router.get("/login")
    def ask(request: Request, next: str = "/") -> HTMLResponse:
        return _login(site, request, next)

    @router.post("/login", dependencies=[form])
    def sign_in(request: Request) -> Response:
        name, password, back = (field_of(request, field) for field in ("name", "password", "next"))
        try:
            found = sessions.sign_in(
                site.engine, name, password, visitor_of(site, request), field_of(request, "code")
            )
        except Throttled as error:
            return _login(site, request, back, name, f"{str(error).capitalize()}.", 429)
        except Busy as error:
            busy = _login(site, request, back, name, f"{str(error).capitalize()}.", 503)
            busy.headers["Retry-After"] = "2"
            return busy
        if found is None:
            return _login(site, request, back, name, "Name, password or code are wrong.", 401)
        with site.engine.begin() as connection:  # a browser has one session, whoever signed in before
            sessions.close_session(connection, cookie_of(site, request, COOKIE))
        answer = set_device(site, request, site.go(safe_next(back)), found.device)
        return set_cookie(site, request, answer, found.session)

    @router.get("/invitation")
    def ask_code(request: Request) -> HTMLResponse:
        return site.page("invitation_code.html", request)

    @router.get("/invitation/{secret}")
    def old_link(secret: str) -> Response:
        return site.go(f"/invitation#{quote(secret)}")

    @router.post("/invitation", dependencies=[form])
    def accept(request: Request) -> Response:
        secret, name = field_of(request, "code").strip(), field_of(request, "name")
        if "password" not in request.state.form:
            return _invitation(site, request, secret)
        try:
            with site.engine.begin() as connection:
                person = invitations.accept(connection, secret, name, field_of(request, "password"))
                if second_factor.is_asked_for(connection, person):
                    return site.go("/login")  # a link is no second factor
                visitor = visitor_of(site, request)
                session = sessions.open_session(connection, person.id, visitor)
                device = throttle.know_device(connection, person.id, visitor.device)
                evidence.signed_in(connection, person, visitor)
        except (ConfigError, NotFound) as error:
            return _invitation(site, request, secret, name, f"{str(error).capitalize()}.", 422)
        answer = set_device(site, request, site.go("/"), device)
        return set_cookie(site, request, answer, session)


def _login(
    site: Site, request: Request, back: str, name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    with site.engine.connect() as connection:
        has_admin = people.has_admin(connection)
    return site.page(
        "login.html",
        request,
        status,
        next=safe_next(back),
        name=name,
        problem=problem,
        has_admin=has_admin,
        company=site.oidc and site.settings.oidc.label,
    )


def _invitation(
    site: Site, request: Request, secret: str, name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    with site.engine.connect() as connection:
        invited = invitations.look_up(connection, secret)
    if invited is None:
        mend = "Ask for another one: `paceline accounts invite`, or `paceline accounts reset NAME`."
        return site.page("error.html", request, 404, said=GONE, mend=mend)
    return site.page(
        "invitation.html", request, status, invited=invited, code=secret, name=name, problem=problem
    )
