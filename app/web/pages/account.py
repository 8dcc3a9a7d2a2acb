"""A person's own account: password, second factor, sessions, tokens."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import RANKS, identities, people, second_factor, sessions, tokens
from app.accounts.passwords import Busy
from app.accounts.throttle import Throttled
from app.errors import ConfigError, NotFound
from app.models import Role
from app.web.access import COOKIE, cookie_of, field_of, form_token, set_cookie, visitor_of
from app.web.site import Site


def add(router: APIRouter, site: Site) -> None:
    """Add the account's own page, and what is done there."""

    @router.get("/account")
    def account(request: Request) -> HTMLResponse:
        return show(site, request)

    @router.post("/logout")
    def sign_out(request: Request) -> Response:
        with site.engine.begin() as connection:
            sessions.close_session(connection, cookie_of(site, request, COOKIE))
        answer = set_cookie(site, request, site.go("/login"), None)
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer

    @router.post("/account/sessions")
    def sign_out_elsewhere(request: Request) -> HTMLResponse:
        with site.engine.begin() as connection:
            closed = sessions.close_others(connection, request.state.person, cookie_of(site, request, COOKIE))
        return show(site, request, said=f"Signed out in {closed} other browsers.")

    @router.post("/account/sessions/end")
    def end_session(request: Request) -> Response:
        with site.engine.begin() as connection:
            sessions.close_listed(connection, request.state.person, field_of(request, "id"))
        return site.go("/account")

    @router.post("/account/password")
    def change_password(request: Request) -> Response:
        person, old = request.state.person, field_of(request, "old")
        try:
            step_up(site, request, old)
            with site.engine.begin() as connection:
                people.set_password(connection, person, field_of(request, "new"))
                secret = sessions.open_session(connection, person.id, visitor_of(site, request))
                assert secret is not None
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        request.state.csrf = form_token(secret)
        said = "Changed. All other browsers are signed out, and API tokens ended."
        return set_cookie(site, request, show(site, request, said=said), secret)

    @router.post("/account/second-factor")
    def begin_second_factor(request: Request) -> HTMLResponse:
        try:
            step_up(site, request, field_of(request, "password"))
            with site.engine.begin() as connection:
                setup = second_factor.begin(connection, request.state.person)
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return show(site, request, setup=setup)

    @router.post("/account/second-factor/confirm")
    def confirm_second_factor(request: Request) -> HTMLResponse:
        try:
            with site.engine.begin() as connection:
                codes = second_factor.confirm(
                    connection, request.state.person, field_of(request, "code").replace(" ", "")
                )
        except ConfigError as error:
            return show(site, request, problem=f"{str(error).capitalize()}: begin again.", status=422)
        return show(site, request, codes=codes)

    @router.post("/account/second-factor/remove")
    def remove_second_factor(request: Request) -> HTMLResponse:
        try:
            step_up(site, request, field_of(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            person = request.state.person
            second_factor.remove(connection, person, actor=person.name)
        return show(site, request, said="The password alone signs you in now.")

    @router.post("/account/company")
    def begin_link(request: Request) -> HTMLResponse:
        try:
            step_up(site, request, field_of(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            sessions.prove(connection, cookie_of(site, request, COOKIE))
        return show(site, request, goes_on=True)

    @router.post("/account/company/remove")
    def unlink(request: Request) -> HTMLResponse:
        try:
            step_up(site, request, field_of(request, "password"))
            with site.engine.begin() as connection:
                identities.unlink(connection, request.state.person)
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return show(site, request, said="The password alone signs you in now.")

    @router.post("/account/tokens")
    def make_token(request: Request) -> HTMLResponse:
        role, days = role_named(field_of(request, "role")), field_of(request, "days") or "90"
        try:
            if role is Role.ADMIN:
                step_up(site, request, field_of(request, "password"))
            with site.engine.begin() as connection:
                token = tokens.add_token(
                    connection,
                    request.state.person,
                    field_of(request, "label"),
                    role,
                    int(days) if days.isdecimal() else 0,
                )
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return show(site, request, token=token)

    @router.post("/account/tokens/remove")
    def remove_token(request: Request) -> Response:
        try:
            token_id = UUID(field_of(request, "id"))
        except ValueError:
            raise NotFound("no such token") from None
        with site.engine.begin() as connection:
            tokens.remove_token(connection, request.state.person, token_id)
        return site.go("/account")


def step_up(site: Site, request: Request, password: str) -> None:
    """A stolen session must not be enough for this: raises ConfigError unless it is the person's password, or
    for who has none, the company's sign-in was gone through again a moment ago.
    """
    person, secret = request.state.person, cookie_of(site, request, COOKIE)
    with site.engine.connect() as connection:
        has_password = people.proofs(connection, person).password_hash is not None
        is_proved = sessions.is_proved(connection, secret)
    if not has_password:
        if not is_proved:
            raise ConfigError(f"show first who you are, at {site.settings.oidc.label}")
    elif not sessions.is_password(site.engine, person, password, visitor_of(site, request)):
        raise ConfigError("the present password is another one")


def role_named(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise ConfigError(f"there is no role {name!r}") from None


def _must_have_second(site: Site, request: Request) -> bool:
    return site.settings.web.second_factor == "required" and request.state.person.lacks_factor


def show(site: Site, request: Request, status: int = 200, **said: Any) -> HTMLResponse:
    person = request.state.person
    with site.engine.connect() as connection:
        own = tokens.list_tokens(connection, person)
        browsers = sessions.list_sessions(connection, person, cookie_of(site, request, COOKIE))
        accounts = people.list_accounts(connection) if person.may(Role.ADMIN) else None
        has_second = second_factor.is_asked_for(connection, person)
        proofs = people.proofs(connection, person)
        is_proved = sessions.is_proved(connection, cookie_of(site, request, COOKIE))
    facts = {
        "problem": "",
        "said": "",
        "token": "",
        "link": "",
        "setup": None,
        "codes": (),
        "goes_on": False,
        **said,
    }
    roles = [role for role in Role if RANKS[role] <= RANKS[person.role]]
    return site.page(
        "account.html",
        request,
        status,
        tokens=own,
        accounts=accounts,
        roles=roles,
        all_roles=list(Role),
        browsers=browsers,
        days=tokens.DAYS,
        has_second=has_second,
        proofs=proofs,
        is_proved=is_proved,
        must_have_second=_must_have_second(site, request),
        company=site.oidc and site.settings.oidc.label,
        **facts,
    )
