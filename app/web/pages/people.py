"""Signing in and out, invitations, one's own account, and everybody's for administrators."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import RANKS, invitations, people, sessions, tokens
from app.accounts.sessions import Throttled
from app.errors import ConfigError, NotFound, PacelineError
from app.models import Role
from app.web.access import COOKIE, address_of, form_token, guard, open_form, safe_next, set_cookie
from app.web.site import Site

CHANGES = {
    "remove": ("Remove {}", "All of them end at once, and the account is gone.", "remove {}"),
    "sign_out": ("Sign {} out", "All of them end at once, and links that were given; the account stays.",
                 "sign-out {}"),
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
            secret = sessions.sign_in(site.engine, name, password, address_of(request))
        except Throttled as error:
            return _login(site, request, back, name, f"{str(error).capitalize()}.", 429)
        if secret is None:
            return _login(site, request, back, name, "Name or password are wrong.", 401)
        return set_cookie(site, request, site.go(safe_next(back)), secret)

    @router.get("/invitation/{secret}")
    def invitation(request: Request, secret: str) -> HTMLResponse:
        return _invitation(site, request, secret)

    @router.post("/invitation/{secret}", dependencies=[form])
    def accept(request: Request, secret: str) -> Response:
        name = _field(request, "name")
        try:
            with site.engine.begin() as connection:
                person = invitations.accept(connection, secret, name, _field(request, "password"))
                session = sessions.open_session(connection, person.id)
        except (ConfigError, NotFound) as error:
            return _invitation(site, request, secret, name, f"{str(error).capitalize()}.", 422)
        return set_cookie(site, request, site.go("/"), session)


def add(router: APIRouter, site: Site) -> None:
    """Add the account's own page, and what is done there."""

    @router.get("/account")
    def account(request: Request) -> HTMLResponse:
        return _account(site, request)

    @router.post("/logout")
    def sign_out(request: Request) -> Response:
        with site.engine.begin() as connection:
            sessions.close_session(connection, request.cookies[COOKIE])
        return set_cookie(site, request, site.go("/login"), None)

    @router.post("/account/sessions")
    def sign_out_elsewhere(request: Request) -> HTMLResponse:
        with site.engine.begin() as connection:
            closed = sessions.close_others(
                connection, request.state.person, request.cookies[COOKIE]
            )
        return _account(site, request, said=f"Signed out in {closed} other browsers.")

    @router.post("/account/password")
    def change_password(request: Request) -> Response:
        person, old = request.state.person, _field(request, "old")
        try:
            if not sessions.is_password(site.engine, person, old, address_of(request)):
                raise ConfigError("the present password is another one")
            with site.engine.begin() as connection:
                people.set_password(connection, person, _field(request, "new"))
                secret = sessions.open_session(connection, person.id)
        except (ConfigError, Throttled) as error:
            return _account(site, request, problem=f"{str(error).capitalize()}.", status=422)
        request.state.csrf = form_token(secret)
        said = "Changed. All other browsers are signed out."
        return set_cookie(site, request, _account(site, request, said=said), secret)

    @router.post("/account/tokens")
    def make_token(request: Request) -> HTMLResponse:
        role = _role(request)
        with site.engine.begin() as connection:
            token = tokens.add_token(
                connection, request.state.person, _field(request, "label"), role
            )
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
        with site.engine.begin() as connection:
            secret = invitations.invite(
                connection, _role(request), actor=request.state.person.name, reason=reason,
                by=request.state.person.id,
            )  # fmt: skip
        return _account(site, request, link=f"{site.settings.web.url}/invitation/{secret}")

    @router.get("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def ask_change(request: Request, name: str = "", what: str = "") -> HTMLResponse:
        said, follows, verb = CHANGES.get(what) or _role_change(_as_role(what))
        with site.engine.connect() as connection:
            person = people.find_account(connection, name)
            account = next(a for a in people.list_accounts(connection) if a.name == person.name)
            count = len(tokens.list_tokens(connection, person))
        return site.page(
            "account_change.html", request, account=account, tokens=count, what=what,
            title=said.format(account.name), follows=follows,
            cli=f"paceline accounts {verb.format(account.name)} --reason WHY",
        )  # fmt: skip

    @router.post("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def change(request: Request) -> Response:
        name, what = _field(request, "name"), _field(request, "what")
        me = request.state.person
        given: Any = {"actor": me.name, "reason": _reason(request)}
        secret = None
        try:
            with site.engine.begin() as connection:
                if what == "remove":
                    people.remove_account(connection, name, **given)
                elif what == "sign_out":
                    people.sign_out(connection, name, **given)
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
        return _account(site, request, link=f"{site.settings.web.url}/invitation/{secret}")


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
                     has_admin=has_admin)  # fmt: skip


def _invitation(
    site: Site, request: Request, secret: str, name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    with site.engine.connect() as connection:
        invited = invitations.look_up(connection, secret)
    if invited is None:
        mend = "Ask for another one: `paceline accounts invite`, or `paceline accounts reset NAME`."
        return site.page("error.html", request, 404, said=GONE, mend=mend)
    return site.page(
        "invitation.html", request, status, invited=invited, name=name, problem=problem
    )


def _account(site: Site, request: Request, status: int = 200, **said: str) -> HTMLResponse:
    person = request.state.person
    with site.engine.connect() as connection:
        own = tokens.list_tokens(connection, person)
        accounts = people.list_accounts(connection) if person.may(Role.ADMIN) else None
    facts = {"problem": "", "said": "", "token": "", "link": "", **said}
    roles = [role for role in Role if RANKS[role] <= RANKS[person.role]]
    return site.page("account.html", request, status, tokens=own, accounts=accounts, roles=roles,
                     all_roles=list(Role), **facts)  # fmt: skip
