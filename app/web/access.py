"""Rights to look and rights to act: every route says the least role that it takes.

A browser shows the cookie of its session; what changes something needs, beside the role, the session's own
form token and an origin that is this very site. A program shows an API token, which no browser sends by
itself, so it needs neither.
"""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.accounts import Person, Visitor, evidence
from app.accounts.sessions import LONGEST, whose_session
from app.accounts.tokens import whose_token
from app.audit_log import Actor, ActorKind, act_as
from app.errors import PacelineError
from app.models import Role
from app.web.site import Site, route_path

COOKIE = "paceline_session"
DEVICE = "paceline_device"
DEVICE_KEPT_S = 365 * 86_400
TRIP = "paceline_trip"
"""Kept while a browser is at the company's provider."""
TRIP_S = 600
LIVE = "x-paceline-live"
"""Sent by the script that keeps pages fresh: nobody is at work because a page is open."""
SAFE = ("GET", "HEAD")
SET_UP = re.compile(r"/account(/second-factor(/confirm)?|/company)?|/logout")
"""All that is open to whoever has yet to set up a second factor."""
FIELDS_MAX = 2_000
Form = Mapping[str, list[str]]


class SignInNeeded(PacelineError):
    """Nobody is signed in."""


class SecondFactorNeeded(PacelineError):
    """Signed in by a password alone, where the settings ask for a second factor."""


class Forbidden(PacelineError):
    """Signed in, but not allowed to do this."""


def guard(site: Site, role: Role) -> Any:
    """A dependency for pages: lets through who is signed in and may do what `role` may."""

    async def check(request: Request) -> Person:
        secret = cookie_of(site, request, COOKIE)
        is_used = LIVE not in request.headers
        person = await run_in_threadpool(_person_of, site, secret, is_used) if secret else None
        if person is None or not secret:
            raise SignInNeeded("sign in first")
        request.state.person = person
        request.state.csrf = form_token(secret)
        if request.method not in SAFE:
            form = await read_form(site, request)
            if not hmac.compare_digest(form.get("csrf", [""])[0].encode(), form_token(secret).encode()):
                raise Forbidden("this form is from another session: go back, reload, try again")
        _require_second_factor(site, request, person)
        require(site, request, person, role)
        act_as(Actor(ActorKind.PERSON, person.id, address_of(request)))
        return person

    return Depends(check)


def api_guard(site: Site, role: Role) -> Any:
    """The same for the JSON API: by token, or (to look only) by the session of a browser."""

    async def check(request: Request) -> Person:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        person = None
        if scheme.lower() == "bearer":
            person = await run_in_threadpool(_holder_of, site, value.strip())
        elif request.method in SAFE and (secret := cookie_of(site, request, COOKIE)):
            person = await run_in_threadpool(_person_of, site, secret)
            if person is not None:
                _require_second_factor(site, request, person)
        if person is None:
            raise SignInNeeded("send an API token: Authorization: Bearer pl_...")
        require(site, request, person, role)
        act_as(Actor(ActorKind.TOKEN, person.id, address_of(request)))
        request.state.person = person
        return person

    return Depends(check)


def open_form(site: Site) -> Any:
    """A dependency for the forms that nobody is signed in for: only the origin is looked at."""

    async def check(request: Request) -> None:
        if request.method not in SAFE:
            await read_form(site, request)

    return Depends(check)


async def read_form(site: Site, request: Request) -> Form:
    """The fields of a form from this very site; raises Forbidden for any other. Kept for the handler."""
    _check_origin(site, request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise Forbidden("send a form")
    try:
        text = (await request.body()).decode()
        form = parse_qs(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError:
        raise Forbidden("that form cannot be read") from None
    request.state.form = {
        name: [value.replace("\x00", "") for value in values] for name, values in form.items()
    }
    return form


def form_token(secret: str) -> str:
    """The token of a session's forms: follows from its cookie, which no other site can read."""
    return hmac.new(secret.encode(), b"form", sha256).hexdigest()


def cookie_name(site: Site, request: Request, name: str) -> str:
    """The name of a cookie. By https `__Host-` binds it to this very host; it allows no path of its own, so
    under a path it is `__Secure-`.
    """
    if not is_https(site, request):
        return name
    return f"__Secure-{name}" if site.settings.web.prefix else f"__Host-{name}"


def cookie_of(site: Site, request: Request, name: str) -> str:
    """The value of a cookie of ours; nothing when there is none."""
    return request.cookies.get(cookie_name(site, request, name), "")


def set_cookie(site: Site, request: Request, response: Response, secret: str | None) -> Response:
    """Sign a browser in, or (None) out."""
    if secret is None:
        response.delete_cookie(
            cookie_name(site, request, COOKIE),
            path=site.settings.web.prefix or "/",
            secure=is_https(site, request),
        )
        return response
    return _keep(site, request, response, COOKIE, secret, int(LONGEST.total_seconds()))


def set_device(site: Site, request: Request, response: Response, secret: str) -> Response:
    """Let a browser be known when it comes again. It stays known when it signs out."""
    return _keep(site, request, response, DEVICE, secret, DEVICE_KEPT_S)


def set_trip(site: Site, request: Request, response: Response, value: str) -> Response:
    """Let a browser find its way back from the company's provider."""
    return _keep(site, request, response, TRIP, value, TRIP_S)


def end_trip(site: Site, request: Request, response: Response) -> Response:
    """The browser is back: what it kept is good once."""
    return _keep(site, request, response, TRIP, "", 0)


def _keep(site: Site, request: Request, response: Response, name: str, value: str, seconds: int) -> Response:
    response.set_cookie(
        cookie_name(site, request, name),
        value,
        max_age=seconds,
        path=site.settings.web.prefix or "/",
        httponly=True,
        samesite="lax",
        secure=is_https(site, request),
    )
    return response


def is_https(site: Site, request: Request) -> bool:
    """Whether the browser came by https, as far as we or the proxy before us can tell."""
    return site.settings.web.url.startswith("https://") or request.url.scheme == "https"


def sign_in_address(request: Request, path: str) -> str:
    """Where to sign in, and come back from."""
    query = f"?{request.url.query}" if request.url.query else ""
    back = path + query
    return "/login" if back == "/" else f"/login?next={quote(back, safe='')}"


def safe_next(path: str) -> str:
    """A path of this site to go on to, whatever was given."""
    is_ours = path.startswith("/") and not path.startswith("//")
    return path if is_ours and path.isprintable() and "\\" not in path else "/"


def _person_of(site: Site, secret: str, is_used: bool = True) -> Person | None:
    with site.engine.begin() as connection:
        return whose_session(connection, secret, is_used=is_used)


def _holder_of(site: Site, token: str) -> Person | None:
    with site.engine.begin() as connection:
        return whose_token(connection, token)


def who_is_signed_in(site: Site, request: Request) -> Person | None:
    """Return the person of a browser's session, on a page that is open to all."""
    secret = cookie_of(site, request, COOKIE)
    return _person_of(site, secret) if secret else None


def visitor_of(site: Site, request: Request) -> Visitor:
    """Return the visitor, as far as a request tells."""
    browser = request.headers.get("user-agent", "")[:200]
    device = cookie_of(site, request, DEVICE)[:100]
    return Visitor(address_of(request), device, browser if browser.isprintable() else "")


def address_of(request: Request) -> str:
    """Where somebody comes from, as far as throttling tells them apart: of IPv6 the network."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else host


def require(site: Site, request: Request, person: Person, role: Role) -> None:
    """Let through who may do what `role` may; raises Forbidden, and notes it, for others."""
    if not person.may(role):
        route = getattr(request.scope.get("route"), "path", "?")
        evidence.refused(person, visitor_of(site, request), f"{request.method} {route}")
        raise Forbidden(f"this needs the role {role}, and {person.name} is {person.role}")


def _require_second_factor(site: Site, request: Request, person: Person) -> None:
    """Without one a person sees only the account's own page, where it is set up."""
    is_asked_for = site.settings.web.second_factor == "required" and person.lacks_factor
    if is_asked_for and not SET_UP.fullmatch(route_path(request)):
        raise SecondFactorNeeded("set up a second factor first, on the account's page")


def _check_origin(site: Site, request: Request) -> None:
    """Browsers say where a form comes from; who says nothing is no browser of ours."""
    fetched = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    ours = urlsplit(site.settings.web.url.lower())
    hosts = {request.headers.get("host", "").lower(), ours.netloc, ours.netloc.removesuffix(":443")}
    try:
        found = urlsplit((origin or "").lower())
        is_same = found.netloc in hosts and (found.scheme == "https" or not is_https(site, request))
    except ValueError:
        is_same = False
    if not is_same or fetched not in (None, "same-origin"):
        raise Forbidden("this form does not come from this site: behind a proxy set PACELINE_WEB__PUBLIC_URL")


def field_of(request: Request, name: str) -> str:
    """One field of the form, as the guard read it."""
    values = request.state.form.get(name, [""])
    return str(values[0])[:500]
