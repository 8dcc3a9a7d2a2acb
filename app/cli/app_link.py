"""`paceline app`: what agents write appears in the tables of your application."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from app.cli.acting import act
from app.cli.connect import database, user
from app.cli.output import data, notes, print_json
from app.errors import CameToNothing, ConfigError
from app.integration import app_link, checking, deliveries
from app.integration.app_link import Link
from app.integration.deliver import application
from app.integration.mapping import Mapping, presets, read_mapping, read_preset
from app.settings import get_settings

app = typer.Typer(help="Your application: what agents write appears in its tables.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]


def _link(here: Engine) -> Link:
    with here.connect() as connection:
        return app_link.read_connected(connection)


@app.command("connect")
def connect(
    preset: Annotated[str, typer.Option(help="A known application: simple or subtuna")] = "",
    mapping: Annotated[Path | None, typer.Option(help="A TOML file that says which column gets what")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Insert, show the rows, roll back")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Deliver into your application's tables from now on, or see first what would be written."""
    if bool(preset) == (mapping is not None):
        raise ConfigError(f"give --preset {'|'.join(presets())}, or --mapping FILE")
    found = read_preset(preset) if preset else read_mapping(Path(str(mapping)))
    name, settings = preset or str(mapping), get_settings()
    with database(settings) as here, application(settings, here) as there:
        _refuse_what_is_missing(there, found)
        if dry_run:
            _try_out(here, there, found, as_json)
            return
        with here.begin() as connection:
            app_link.connect(connection, found, name, actor=user(), reason=reason)
    if as_json:
        print_json({"connected": name})
        return
    tables = ", ".join(mapped.table for mapped in found.parts.values())
    data.print(f"connected: what is written from now on goes to {tables}", markup=False)
    notes.print("what was written before: paceline app sync", style="dim")
    notes.print("a role of its own for PACELINE_APP__DATABASE_URL:", style="dim")
    notes.print(checking.role_sql(found), markup=False, style="dim")


def _refuse_what_is_missing(there: Engine, mapping: Mapping) -> None:
    with there.connect() as connection:
        missing = checking.check(connection, mapping)
    if missing:
        lines = "\n".join(f"  {one.what}\n    {one.mend}" for one in missing)
        raise ConfigError(f"the application cannot take what the mapping says:\n{lines}")


def _try_out(here: Engine, there: Engine, mapping: Mapping, as_json: bool) -> None:
    with here.connect() as connection:
        events = checking.samples(connection)
    with there.connect() as connection:
        rows = checking.try_out(connection, mapping, events)
        connection.rollback()
    if as_json:
        print_json({"rows": [{"table": table, "row": row} for table, row in rows]})
        return
    for table, row in rows:
        data.print(f"{table}", markup=False, style="bold")
        for column, value in (row or {}).items():
            data.print(f"  {column:<20} {value}", markup=False)
    notes.print("rolled back: nothing was written", style="dim")


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show what is connected, what waits, what did not arrive."""
    settings = get_settings()
    with database(settings) as here, here.connect() as connection:
        link = app_link.read(connection)
        standing = deliveries.backlog(connection, deliveries.APP)
        dead = deliveries.dead_letters(connection, deliveries.APP, 5)
    if link is None:
        if as_json:
            print_json({"connected": None})
        else:
            notes.print("nothing is connected: paceline app connect --preset NAME")
        return
    if as_json:
        print_json(
            {
                "connected": link.name,
                "state": link.state,
                "reason": link.reason,
                "backlog": asdict(standing),
                "dead_letters": dead,
            }
        )
        return
    where = "another database" if settings.app.database_url else "this database"
    data.print(f"{link.name}, in {where}: {link.state}", markup=False)
    if link.reason:
        data.print(f"  {link.reason}", markup=False, style="yellow")
    lag = (
        "nothing waits"
        if standing.lag_s is None
        else f"{standing.pending} wait, the oldest for {standing.lag_s:.0f} s"
    )
    data.print(f"  {standing.done} delivered, {lag}, {standing.dead} dead", markup=False)
    for letter in dead:
        data.print(
            f"  dead: {letter['kind']} of {letter['created_at']:%Y-%m-%d %H:%M:%S}: {letter['error']}",
            markup=False,
        )
    if dead:
        notes.print("send them again with: paceline app replay", style="dim")


@app.command("check")
def check(as_json: AsJson = False) -> None:
    """Say what the application lacks for the mapping, and how it compares with what was delivered; exit 3."""
    settings = get_settings()
    with database(settings) as here, application(settings, here) as there:
        link = _link(here)
        with there.connect() as theirs, here.connect() as ours:
            missing = checking.check(theirs, link.mapping)
            lost = {} if missing else checking.compare(ours, theirs, link.mapping)
    if as_json:
        print_json({"missing": [asdict(one) for one in missing], "not_there": lost})
    for one in missing if not as_json else ():
        data.print(one.what, markup=False)
        notes.print(f"  {one.mend}", style="dim", markup=False)
    for what, count in lost.items() if not as_json else ():
        data.print(f"{count:>6}  {what.replace('_', ' ')}", markup=False)
    if missing or any(lost.values()):
        raise CameToNothing("something is missing")


THIS = {"receivers": [deliveries.APP]}
app.command("pause")(act("receivers-pause", lambda *_: "paused: events wait", fixed=THIS))
app.command("resume")(act("receivers-resume", lambda *_: "goes on", fixed=THIS))
app.command("replay")(act("receivers-replay", lambda _, done: f"{done.count} are sent again", fixed=THIS))
app.command("disconnect")(act("app-disconnect", lambda *_: "disconnected"))
app.command("sync")(
    act("app-sync", lambda _, done: f"{done.count} posts and comments are delivered now, in order")
)
