"""`paceline accounts`: who may sign in to the dashboard, and what they may do."""

from typing import Annotated

import typer
from rich.table import Table

from app.accounts import invitations, people, second_factor
from app.cli.connect import database, user
from app.cli.output import data, notes, print_json
from app.models import Role
from app.settings import get_settings

app = typer.Typer(help="Who may sign in to the dashboard, and what they may do.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As `accounts list` shows it")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """List accounts with their roles."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = people.list_accounts(connection)
    if as_json:
        print_json({"accounts": found})
        return
    if not found:
        notes.print("no accounts: paceline accounts invite --role admin")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("NAME", "ROLE", "LAST SIGNED IN (UTC)", "BROWSERS", "SECOND FACTOR"):
        table.add_column(column, no_wrap=True)
    for account in found:
        last = f"{account.signed_in_at:%Y-%m-%d %H:%M:%S}" if account.signed_in_at else "never"
        role = f"{account.role}, disabled" if account.disabled_at else account.role
        second = "yes" if account.has_second_factor else "no"
        table.add_row(account.name, role, last, str(account.sessions), second)
    data.print(table)


@app.command("invite")
def invite(
    role: Annotated[
        Role, typer.Option(help="viewer looks, operator acts, admin also limits and accounts")
    ] = Role.VIEWER,
    reason: Reason = "",
) -> None:
    """Print a link that makes one account; it works once, for a day."""
    _print_link(role, None, reason)


@app.command("reset")
def reset(name: Name, reason: Reason = "") -> None:
    """Print a link that sets another password; it works once, for a day."""
    _print_link(Role.VIEWER, name, reason)


@app.command("role")
def set_role(
    name: Name, role: Annotated[Role, typer.Argument(help="viewer, operator or admin")], reason: Reason = ""
) -> None:
    """Change what somebody may do, from their next page on."""
    with database(get_settings()) as engine, engine.begin() as connection:
        people.set_role(connection, name, role, actor=user(), reason=reason)
    data.print(f"{name}: {role}", markup=False)


@app.command("sign-out")
def sign_out(name: Name, reason: Reason = "") -> None:
    """End somebody's sessions, API tokens and links at once; the account stays."""
    with database(get_settings()) as engine, engine.begin() as connection:
        people.sign_out(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: signed out everywhere", markup=False)


@app.command("disable")
def disable(name: Name, reason: Reason = "") -> None:
    """Let nobody sign in to an account, and end its sessions, API tokens and links."""
    with database(get_settings()) as engine, engine.begin() as connection:
        people.disable(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: disabled", markup=False)


@app.command("enable")
def enable(name: Name, reason: Reason = "") -> None:
    """Let somebody sign in again."""
    with database(get_settings()) as engine, engine.begin() as connection:
        people.enable(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: enabled", markup=False)


@app.command("second-factor-off")
def second_factor_off(name: Name, reason: Reason = "") -> None:
    """Take the second factor off an account whose phone and recovery codes are lost."""
    with database(get_settings()) as engine, engine.begin() as connection:
        person = people.find_account(connection, name)
        second_factor.remove(connection, person, actor=user(), reason=reason)
    data.print(f"{name}: signs in by password alone", markup=False)


@app.command("remove")
def remove(name: Name, reason: Reason = "") -> None:
    """Remove an account with its sessions and API tokens."""
    with database(get_settings()) as engine, engine.begin() as connection:
        people.remove_account(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: removed", markup=False)


def _print_link(role: Role, name: str | None, reason: str) -> None:
    settings = get_settings()
    with database(settings) as engine, engine.begin() as connection:
        secret = invitations.invite(connection, role, name=name, actor=user(), reason=reason)
    data.print(invitations.link(settings.web.url, secret), markup=False)
