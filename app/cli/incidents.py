"""`paceline incidents`, `paceline alerts`: what went wrong with the gateway, and who was told."""

from typing import Annotated

import typer
from rich.table import Table

from app.actions import Done
from app.actions.alerts import SendTest
from app.alerts.incidents import list_incidents
from app.alerts.outbox import list_alerts
from app.cli.acting import act
from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.runs import jobs
from app.settings import get_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
alerts = typer.Typer(help="Messages about incidents and thresholds.", no_args_is_help=True)


def incidents(limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20, as_json: AsJson = False) -> None:
    """List rate-limit and credit incidents, the newest first."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = list_incidents(connection, limit)
        looked = {job.name: job.done_at for job in jobs.last_rounds(connection)}.get(jobs.WATCH)
    if as_json:
        print_json({"incidents": found})
        return
    if not found:
        when = f"the ledger as of {looked:%H:%M:%S} UTC" if looked else "nobody looked yet"
        notes.print(f"no incidents; {when}")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("KIND", "OPENED (UTC)", "CLOSED", "CALLS", "AGENTS", "PEAK PER MINUTE"):
        table.add_column(column, no_wrap=True)
    for row in found:
        closed = f"{row['closed_at']:%H:%M:%S}" if row["closed_at"] else "open"
        opened = f"{row['opened_at']:%Y-%m-%d %H:%M:%S}"
        numbers = (str(row[name]) for name in ("calls", "agents", "peak_per_minute"))
        table.add_row(str(row["kind"]).replace("_", " "), opened, closed, *numbers)
    data.print(table)


@alerts.command("list")
def list_all(limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20, as_json: AsJson = False) -> None:
    """List messages, and whether they arrived."""
    with database(get_settings()) as engine, engine.connect() as connection:
        found = list_alerts(connection, limit)
    if as_json:
        print_json({"alerts": found})
        return
    waits = "waits" if get_settings().alerts.urls else "no channel: set PACELINE_ALERTS__URLS"
    if not found:
        notes.print("no alerts")
    for row in found:
        sent = (
            f"sent {row['sent_at']:%H:%M:%S}"
            if row["sent_at"]
            else f"not sent ({row['last_error'] or waits})"
        )
        data.print(
            f"{row['created_at']:%Y-%m-%d %H:%M:%S}  {row['severity']:<8} {row['title']}  {sent}",
            markup=False,
        )


def _sent(_: SendTest, done: Done) -> str:
    return f"sent to {done.count} channel{'' if done.count == 1 else 's'}"


alerts.command("test")(act("alerts-test", _sent))
