"""Signing in and out, invitations, one's own account, and everybody's for administrators."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import (
    RANKS,
    evidence,
    identities,
    invitations,
    people,
    second_factor,
    sessions,
    throttle,
    tokens,
)
from app.accounts.passwords import Busy
from app.accounts.throttle import Throttled
from app.errors import ConfigError, NotFound, PacelineError
from app.models import Role
from app.web.access import (
    COOKIE,
    cookie_of,
    form_token,
    guard,
    open_form,
    safe_next,
    set_cookie,
    set_device,
    visitor_of,
)
from app.web.site import Site

CHANGES = {
    "remove": ("Remove {}", "All of them end at once, and the account is gone.", "remove {}"),
    "sign_out": ("Sign {} out", "All of them end at once, and links that were given; the account stays.",
                 "sign-out {}"),
    "disable": ("Disable {}", "All of them end at once, and nobody signs in to it until it is enabled.",
                "disable {}"),
    "enable": ("Enable {}", "They may sign in again.", "enable {}"),
    "reset": ("Make a link for a new password of {}", "They end when the link is used.", "reset {}"),
}  # fmt: skip
"""What may be done to an account: title, what follows, the verb on the command line. All else is a role."""
GONE = "This link was used, or is too old."


def add_open(router: APIRouter, site: Site) -> None:
    """Add the pages for whoever is not signed in."""
    form = open_form(site)

    @router.get("/login")
    def ask(request: Request, next: str = "/") -> HTMLResponse:
        return _login(site, request, next)

    @router.post("/login", dependencies=[form])
    def sign_in(request: Request) -> Response:
        name, password, back = (_field(request, field) for field in ("name", "password", "next"))
        try:
            found = sessions.sign_in(
                site.engine, name, password, visitor_of(site, request), _field(request, "code")
            )
        except Throttled as error:
            return _login(site, request, back, name, f"{str(error).capitalize()}.", 429)
        except Busy as error:
            busy = _login(site, request, back, name, f"{str(error).capitalize()}.", 503)
            busy.headers["Retry-After"] = "2"
            return busy
        if found is None:
            return _login(site, request, back, name, "Name, password or code are wrong.", 401)
        with (
            site.engine.begin() as connection
        ):  # a browser has one session, whoever signed in before
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
        secret, name = _field(request, "code").strip(), _field(request, "name")
        if "password" not in request.state.form:
            return _invitation(site, request, secret)
        try:
            with site.engine.begin() as connection:
                person = invitations.accept(connection, secret, name, _field(request, "password"))
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


def add(router: APIRouter, site: Site) -> None:
    """Add the account's own page, and what is done there."""

    @router.get("/account")
    def account(request: Request) -> HTMLResponse:
        return _account(site, request)

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
            closed = sessions.close_others(
                connection, request.state.person, cookie_of(site, request, COOKIE)
            )
        return _account(site, request, said=f"Signed out in {closed} other browsers.")

    @router.post("/account/sessions/end")
    def end_session(request: Request) -> Response:
        with site.engine.begin() as connection:
            sessions.close_listed(connection, request.state.person, _field(request, "id"))
        return site.go("/account")

    @router.post("/account/password")
    def change_password(request: Request) -> Response:
        person, old = request.state.person, _field(request, "old")
        try:
            _step_up(site, request, old)
            with site.engine.begin() as connection:
                people.set_password(connection, person, _field(request, "new"))
                secret = sessions.open_session(connection, person.id, visitor_of(site, request))
                assert secret is not None
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        request.state.csrf = form_token(secret)
        said = "Changed. All other browsers are signed out, and API tokens ended."
        return set_cookie(site, request, _account(site, request, said=said), secret)

    @router.post("/account/second-factor")
    def begin_second_factor(request: Request) -> HTMLResponse:
        try:
            _step_up(site, request, _field(request, "password"))
            with site.engine.begin() as connection:
                setup = second_factor.begin(connection, request.state.person)
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return _account(site, request, setup=setup)

    @router.post("/account/second-factor/confirm")
    def confirm_second_factor(request: Request) -> HTMLResponse:
        try:
            with site.engine.begin() as connection:
                codes = second_factor.confirm(
                    connection, request.state.person, _field(request, "code").replace(" ", "")
                )
        except ConfigError as error:
            return _account(
                site, request, problem=f"{str(error).capitalize()}: begin again.", status=422
            )
        return _account(site, request, codes=codes)

    @router.post("/account/second-factor/remove")
    def remove_second_factor(request: Request) -> HTMLResponse:
        try:
            _step_up(site, request, _field(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            person = request.state.person
            second_factor.remove(connection, person, actor=person.name)
        return _account(site, request, said="The password alone signs you in now.")

    @router.post("/account/company")
    def begin_link(request: Request) -> HTMLResponse:
        try:
            _step_up(site, request, _field(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            sessions.prove(connection, cookie_of(site, request, COOKIE))
        return _account(site, request, goes_on=True)

    @router.post("/account/company/remove")
    def unlink(request: Request) -> HTMLResponse:
        try:
            _step_up(site, request, _field(request, "password"))
            with site.engine.begin() as connection:
                identities.unlink(connection, request.state.person)
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return _account(site, request, said="The password alone signs you in now.")

    @router.post("/account/tokens")
    def make_token(request: Request) -> HTMLResponse:
        role, days = _role(request), _field(request, "days") or "90"
        try:
            if role is Role.ADMIN:
                _step_up(site, request, _field(request, "password"))
            with site.engine.begin() as connection:
                token = tokens.add_token(
                    connection, request.state.person, _field(request, "label"), role,
                    int(days) if days.isdecimal() else 0,
                )  # fmt: skip
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        return _account(site, request, token=token)

    @router.post("/account/tokens/remove")
    def remove_token(request: Request) -> Response:
        try:
            token_id = UUID(_field(request, "id"))
        except ValueError:
            raise NotFound("no such token") from None
        with site.engine.begin() as connection:
            tokens.remove_token(connection, request.state.person, token_id)
        return site.go("/account")

    @router.post("/accounts/invite", dependencies=[guard(site, Role.ADMIN)])
    def invite(request: Request) -> HTMLResponse:
        reason = _reason(request)
        try:
            if _role(request) is Role.ADMIN:
                _step_up(site, request, _field(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            secret = invitations.invite(
                connection, _role(request), actor=request.state.person.name, reason=reason,
                by=request.state.person.id,
            )  # fmt: skip
        return _account(site, request, link=invitations.link(site.settings.web.url, secret))

    @router.get("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def ask_change(request: Request, name: str = "", what: str = "") -> HTMLResponse:
        said, follows, verb = CHANGES.get(what) or _role_change(_as_role(what))
        with site.engine.connect() as connection:
            person = people.find_account(connection, name)
            account = next(a for a in people.list_accounts(connection) if a.name == person.name)
            count = len(tokens.list_tokens(connection, person))
            has_password = people.proofs(connection, request.state.person).password_hash is not None
        return site.page(
            "account_change.html", request, account=account, tokens=count, what=what,
            title=said.format(account.name), follows=follows, has_password=has_password,
            company=site.settings.oidc.label,
            cli=f"paceline accounts {verb.format(account.name)} --reason WHY",
        )  # fmt: skip

    @router.post("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def change(request: Request) -> Response:
        name, what = _field(request, "name"), _field(request, "what")
        me = request.state.person
        given: Any = {"actor": me.name, "reason": _reason(request)}
        secret = None
        try:
            _step_up(site, request, _field(request, "password"))
            with site.engine.begin() as connection:
                if what == "remove":
                    people.remove_account(connection, name, **given)
                elif what in ("sign_out", "disable", "enable"):
                    getattr(people, what)(connection, name, **given)
                elif what == "reset":
                    secret = invitations.invite(
                        connection, Role.VIEWER, name=name, by=me.id, **given
                    )
                else:
                    people.set_role(connection, name, _as_role(what), **given)
        except PacelineError as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        if secret is None:
            return site.go("/account")
        return _account(site, request, link=invitations.link(site.settings.web.url, secret))


def _step_up(site: Site, request: Request, password: str) -> None:
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


def _role_change(role: Role) -> tuple[str, str, str]:
    follows = "They stay, and may do what the new role may, from now on."
    return f"Make {{}} {role}", follows, f"role {{}} {role}"


def _field(request: Request, name: str) -> str:
    """One field of the form, as the guard read it."""
    values = request.state.form.get(name, [""])
    return str(values[0])[:500]


def _role(request: Request) -> Role:
    return _as_role(_field(request, "role"))


def _as_role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise ConfigError(f"there is no role {name!r}") from None


def _reason(request: Request) -> str:
    reason = _field(request, "reason").strip()
    if not reason:
        raise ConfigError("say why: it goes into the audit log")
    return reason


def _login(
    site: Site, request: Request, back: str, name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    with site.engine.connect() as connection:
        has_admin = people.has_admin(connection)
    return site.page("login.html", request, status, next=safe_next(back), name=name, problem=problem,
                     has_admin=has_admin, company=site.oidc and site.settings.oidc.label)  # fmt: skip


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


def _must_have_second(site: Site, request: Request) -> bool:
    return site.settings.web.second_factor == "required" and request.state.person.lacks_factor


def _account(site: Site, request: Request, status: int = 200, **said: Any) -> HTMLResponse:
    person = request.state.person
    with site.engine.connect() as connection:
        own = tokens.list_tokens(connection, person)
        browsers = sessions.list_sessions(connection, person, cookie_of(site, request, COOKIE))
        accounts = people.list_accounts(connection) if person.may(Role.ADMIN) else None
        has_second = second_factor.is_asked_for(connection, person)
        proofs = people.proofs(connection, person)
        is_proved = sessions.is_proved(connection, cookie_of(site, request, COOKIE))
    facts = {"problem": "", "said": "", "token": "", "link": "", "setup": None, "codes": (),
             "goes_on": False, **said}  # fmt: skip
    roles = [role for role in Role if RANKS[role] <= RANKS[person.role]]
    return site.page("account.html", request, status, tokens=own, accounts=accounts, roles=roles,
                     all_roles=list(Role), browsers=browsers, days=tokens.DAYS, has_second=has_second,
                     proofs=proofs, is_proved=is_proved, must_have_second=_must_have_second(site, request),
                     company=site.oidc and site.settings.oidc.label,
                     **facts)  # fmt: skip
