"""Everybody's accounts, for administrators: invite, and change with a reason."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from app.accounts import invitations, people, tokens
from app.accounts.passwords import Busy
from app.accounts.throttle import Throttled
from app.errors import ConfigError, PacelineError
from app.models import Role
from app.web.access import field_of, guard
from app.web.pages.account import role_named, show, step_up
from app.web.site import Site

CHANGES = {
    "remove": ("Remove {}", "All of them end at once, and the account is gone.", "remove {}"),
    "sign_out": (
        "Sign {} out",
        "All of them end at once, and links that were given; the account stays.",
        "sign-out {}",
    ),
    "disable": (
        "Disable {}",
        "All of them end at once, and nobody signs in to it until it is enabled.",
        "disable {}",
    ),
    "enable": ("Enable {}", "They may sign in again.", "enable {}"),
    "reset": ("Make a link for a new password of {}", "They end when the link is used.", "reset {}"),
}
"""Changes of an account: title, what follows, the verb on the command line. All else is a role."""


def add(router: APIRouter, site: Site) -> None:
    """Add the pages that change other accounts."""

    @router.post("/accounts/invite", dependencies=[guard(site, Role.ADMIN)])
    def invite(request: Request) -> HTMLResponse:
        reason = _reason(request)
        try:
            if role_named(field_of(request, "role")) is Role.ADMIN:
                step_up(site, request, field_of(request, "password"))
        except (ConfigError, Throttled, Busy) as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        with site.engine.begin() as connection:
            secret = invitations.invite(
                connection,
                role_named(field_of(request, "role")),
                actor=request.state.person.name,
                reason=reason,
                by=request.state.person.id,
            )
        return show(site, request, link=invitations.link(site.settings.web.url, secret))

    @router.get("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def ask_change(request: Request, name: str = "", what: str = "") -> HTMLResponse:
        said, follows, verb = CHANGES.get(what) or _role_change(role_named(what))
        with site.engine.connect() as connection:
            person = people.find_account(connection, name)
            account = next(a for a in people.list_accounts(connection) if a.name == person.name)
            count = len(tokens.list_tokens(connection, person))
            has_password = people.proofs(connection, request.state.person).password_hash is not None
        return site.page(
            "account_change.html",
            request,
            account=account,
            tokens=count,
            what=what,
            title=said.format(account.name),
            follows=follows,
            has_password=has_password,
            company=site.settings.oidc.label,
            cli=f"paceline accounts {verb.format(account.name)} --reason WHY",
        )

    @router.post("/accounts/change", dependencies=[guard(site, Role.ADMIN)])
    def change(request: Request) -> Response:
        name, what = field_of(request, "name"), field_of(request, "what")
        me = request.state.person
        given: Any = {"actor": me.name, "reason": _reason(request)}
        secret = None
        try:
            step_up(site, request, field_of(request, "password"))
            with site.engine.begin() as connection:
                if what == "remove":
                    people.remove_account(connection, name, **given)
                elif what in ("sign_out", "disable", "enable"):
                    getattr(people, what)(connection, name, **given)
                elif what == "reset":
                    secret = invitations.invite(connection, Role.VIEWER, name=name, by=me.id, **given)
                else:
                    people.set_role(connection, name, role_named(what), **given)
        except PacelineError as error:
            return show(site, request, problem=f"{str(error).capitalize()}.", status=422)
        if secret is None:
            return site.go("/account")
        return show(site, request, link=invitations.link(site.settings.web.url, secret))


def _role_change(role: Role) -> tuple[str, str, str]:
    follows = "They stay, and may do what the new role may, from now on."
    return f"Make {{}} {role}", follows, f"role {{}} {role}"


def _reason(request: Request) -> str:
    reason = field_of(request, "reason").strip()
    if not reason:
        raise ConfigError("say why: it goes into the audit log")
    return reason
