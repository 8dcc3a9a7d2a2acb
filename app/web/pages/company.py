"""Signing in at the company's provider: there, back, and what comes of it."""

from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import evidence, identities, oidc, sessions, throttle
from app.accounts.oidc import Identity
from app.clock import utcnow
from app.errors import ConfigError, NotFound, PacelineError
from app.web.access import (
    COOKIE,
    TRIP,
    cookie_of,
    end_trip,
    safe_next,
    set_cookie,
    set_device,
    set_trip,
    visitor_of,
    who_is_signed_in,
)
from app.web.site import Site

IN, ANEW, LINK = "in", "anew", "link"
PURPOSES = (IN, ANEW, LINK)
FRESH = timedelta(minutes=5)
"""A password that was typed at the provider so long ago proves that the person is there."""


def add_open(router: APIRouter, site: Site) -> None:
    """Add the way to the provider and back. The database says what a way back may do, never
    the browser's cookie.
    """

    @router.get("/login/company")
    def go(request: Request, next: str = "/", purpose: str = IN) -> Response:
        if site.oidc is None:
            raise NotFound("no company's sign-in is set: PACELINE_OIDC__ISSUER")
        purpose = purpose if purpose in PURPOSES else IN
        secret = oidc.begin()
        answer = site.leave(site.oidc.ask(secret, anew=purpose == ANEW))
        return set_trip(site, request, answer, f"{secret} {purpose} {safe_next(next)}")

    @router.get(oidc.CALLBACK)
    def come_back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
        secret, _, rest = cookie_of(site, request, TRIP).partition(" ")
        purpose, _, next = rest.partition(" ")
        try:
            if site.oidc is None or not secret:
                raise ConfigError("this sign-in was begun in another browser, or too long ago")
            if error or not code:
                raise ConfigError("the company's sign-in let nobody in")
            identity = site.oidc.hear(secret, state, code)
            answer = _arrive(site, request, identity, purpose, safe_next(next))
        except PacelineError as problem:
            evidence.failed(f"at {site.settings.oidc.label}", visitor_of(site, request))
            answer = _sorry(site, request, problem)
        return end_trip(site, request, answer)


def _arrive(site: Site, request: Request, identity: Identity, purpose: str, next: str) -> Response:
    if purpose == LINK:
        return _link(site, request, identity)
    if purpose == ANEW:
        return _prove(site, request, identity, next)
    visitor = visitor_of(site, request)
    with site.engine.begin() as connection:
        person = identities.whose(connection, identity)
        if person is None:
            person = identities.welcome(connection, identity, site.settings.oidc)
        sessions.close_session(connection, cookie_of(site, request, COOKIE))
        session = sessions.open_session(connection, person.id, visitor, by_company=True)
        sessions.note_sign_in(connection, person)
        evidence.signed_in(connection, person, visitor)
        device = throttle.know_device(connection, person.id, visitor.device)
    return set_cookie(site, request, set_device(site, request, site.go(next), device), session)


def _link(site: Site, request: Request, identity: Identity) -> Response:
    """Linking needs the account's password, shown a moment ago in this very session."""
    person, secret = who_is_signed_in(site, request), cookie_of(site, request, COOKIE)
    with site.engine.begin() as connection:
        if person is None or not sessions.is_proved(connection, secret):
            raise ConfigError("give the account's password first, on the account's page")
        identities.link(connection, person, identity)
    return site.go("/account")


def _prove(site: Site, request: Request, identity: Identity, next: str) -> Response:
    """The person of this session has signed in once more: dangerous things may be done for a while."""
    person, secret = who_is_signed_in(site, request), cookie_of(site, request, COOKIE)
    with site.engine.begin() as connection:
        whose = identities.whose(connection, identity)
        if person is None or whose is None or whose.id != person.id:
            raise ConfigError("that is not the person who is signed in here")
        if identity.proved_at is None or identity.proved_at < utcnow() - FRESH:
            raise ConfigError("the company's sign-in did not ask for a password again")
        sessions.prove(connection, secret)
    return site.go(next)


def _sorry(site: Site, request: Request, problem: PacelineError) -> HTMLResponse:
    said = str(problem)
    mend = f"{said[:1].upper()}{said[1:]}."
    return site.page("error.html", request, 403, said="The company's sign-in did not work.", mend=mend)
