"""`paceline controls`: what agents may do and publish, changed while the fleet runs."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from app.actions import fleet
from app.actions.inputs import given
from app.cli.connect import database, desk, me
from app.cli.output import data, print_json
from app.controls import Controls, read_controls
from app.errors import ConfigError
from app.models import Links, OverBudget, Review
from app.settings import get_settings

app = typer.Typer(help="Dry run, approval, pauses by activity, caps, words and links.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Cap = Annotated[int | None, typer.Option(help="Of one agent; 0: no cap")]


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show the controls in force."""
    settings = get_settings()
    with database(settings) as engine, engine.begin() as connection:
        found = read_controls(connection, settings.controls)
    _print(found, as_json=as_json)


@app.command("set")
def set_controls(
    dry_run: Annotated[bool | None, typer.Option("--dry-run/--no-dry-run", help="Publish nothing")] = None,
    review: Annotated[Review | None, typer.Option(help="What waits for approval")] = None,
    pause: Annotated[
        list[str] | None,
        typer.Option(help="style, welcome, post, comment, cross_visit or reaction; may be repeated"),
    ] = None,
    resume: Annotated[list[str] | None, typer.Option(help="The same; or `all`")] = None,
    posts_per_hour: Cap = None,
    posts_per_day: Cap = None,
    comments_per_hour: Cap = None,
    comments_per_day: Cap = None,
    ban: Annotated[list[str] | None, typer.Option(help="A word; may be repeated")] = None,
    unban: Annotated[list[str] | None, typer.Option(help="A word; may be repeated")] = None,
    links: Annotated[Links | None, typer.Option(help="What becomes of links")] = None,
    duplicates: Annotated[
        int | None, typer.Option(help="Seconds in which a text may not be said again")
    ] = None,
    over_budget: Annotated[
        OverBudget | None, typer.Option(help="What happens when a budget is used up")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the audit log")] = "",
    as_json: AsJson = False,
) -> None:
    """Change controls; they are in force with the next run of every agent, without a restart."""
    settings = get_settings()
    wanted: dict[str, Any] = {
        "dry_run": dry_run,
        "review": review,
        "posts_per_hour": posts_per_hour,
        "posts_per_day": posts_per_day,
        "comments_per_hour": comments_per_hour,
        "comments_per_day": comments_per_day,
        "links": links,
        "duplicates_s": duplicates,
        "over_budget": over_budget,
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    with database(settings) as engine:
        with engine.begin() as connection:
            before = read_controls(connection, settings.controls)
        gone = before.paused_activities if resume and "all" in resume else resume
        changes["paused_activities"] = _with(before.paused_activities, pause, gone)
        changes["banned_words"] = _with(before.banned_words, ban, unban)
        if changes == {name: getattr(before, name) for name in changes}:
            raise ConfigError("nothing to change: give --dry-run, --review, --pause, --ban, ...")
        ask = given(fleet.SetControls, reason, **changes)
        after = fleet.set_controls(desk(settings, engine), ask, me(reason))
    _print(after, as_json=as_json)


def _with(known: list[str], more: list[str] | None, less: list[str] | None) -> list[str]:
    return [word for word in dict.fromkeys([*known, *(more or ())]) if word not in (less or ())]


def _print(controls: Controls, *, as_json: bool) -> None:
    if as_json:
        print_json({"controls": asdict(controls)})
        return
    rows = {
        "dry run": "ON: nothing is published" if controls.dry_run else "off",
        "review": f"{controls.review} wait for approval"
        if controls.review != Review.NOTHING
        else "nothing waits for approval",
        "paused": ", ".join(controls.paused_activities) or "nothing",
        "posts": f"{_cap(controls.posts_per_hour)} per hour, {_cap(controls.posts_per_day)} per day",
        "comments": f"{_cap(controls.comments_per_hour)} per hour, {_cap(controls.comments_per_day)} per day",
        "banned words": ", ".join(controls.banned_words) or "none",
        "links": controls.links,
        "duplicates": f"refused for {controls.duplicates_s} s" if controls.duplicates_s else "allowed",
        "over budget": controls.over_budget,
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    data.print(table, markup=False)


def _cap(number: int) -> str:
    return str(number) if number else "no cap"
