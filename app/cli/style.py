"""`paceline style`: whose way of writing agents take on."""

from typing import Annotated

import typer
from rich.table import Table

from app.agents import profiles, style
from app.agents.roster_file import X_USER
from app.cli.connect import database, user
from app.cli.output import data, notes, print_json, shorten
from app.errors import ConfigError, NotFound
from app.models import StyleState
from app.settings import get_settings

app = typer.Typer(help="Styles learned from users on X.", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="User name on X")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]


@app.command("list")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """List styles: learned, generic with the reason why, opted out."""
    settings = get_settings()
    with database(settings) as engine, engine.connect() as connection:
        found = profiles.list_profiles(connection)
    if as_json:
        print_json({"styles": found})
        return
    if not found:
        key = settings.twitterapi_io_key
        notes.print(
            "no styles yet: agents with a style_source learn one in their next run"
            + ("" if key else "; that needs TWITTERAPI_IO_KEY")
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("USER", "STATE", "POSTS", "LEARNED (UTC)", "WHAT"):
        table.add_column(column, no_wrap=True)
    for profile in found:
        learned = f"{profile.learned_at:%Y-%m-%d %H:%M:%S}" if profile.learned_at else ""
        what = profile.problem or style.describe(profile.profile)
        count = "" if profile.tweets is None else str(profile.tweets)
        table.add_row(profile.username, profile.state, count, learned, shorten(what, 80))
    data.print(table, markup=False)


@app.command("refresh")
def refresh(username: User, reason: Reason = "") -> None:
    """Learn a style anew with the next run of an agent that takes it on; at most once a day."""
    name = _name(username)
    with database(get_settings()) as engine, engine.begin() as connection:
        state = profiles.state_of(connection, name)
        if state is None:
            raise NotFound(f"no style of {name}: `paceline style list` shows them all")
        if state == StyleState.OPTED_OUT:
            raise ConfigError(f"{name} is opted out: `paceline style opt-in {name}` first")
        later = profiles.refresh(connection, name, actor=user(), reason=reason)
    if later is not None:
        raise ConfigError(f"it was learned less than a day ago: possible from {later:%Y-%m-%d %H:%M} UTC")
    data.print(f"{name}: learned anew with the next run")


@app.command("opt-out")
def opt_out(username: User, reason: Reason = "") -> None:
    """Forget a user's style and never learn it again."""
    name = _name(username)
    with database(get_settings()) as engine, engine.begin() as connection:
        profiles.opt_out(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: forgotten, and not learned again")


@app.command("opt-in")
def opt_in(username: User, reason: Reason = "") -> None:
    """Allow a user's style to be learned again."""
    name = _name(username)
    with database(get_settings()) as engine, engine.begin() as connection:
        if profiles.state_of(connection, name) != StyleState.OPTED_OUT:
            raise NotFound(f"{name} is not opted out")
        profiles.opt_in(connection, name, actor=user(), reason=reason)
    data.print(f"{name}: learned with the next run")


def _name(username: str) -> str:
    name = username.strip().removeprefix("@").lower()
    if not X_USER.fullmatch(name):
        raise ConfigError(f"{username!r} is no user name on X")
    return name
