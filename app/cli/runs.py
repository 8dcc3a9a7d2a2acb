"""`paceline runs`: what agents did in their turns; cancel one that should not go on."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from app.actions import Done
from app.actions.agents import CancelRuns
from app.cli.acting import act
from app.cli.connect import database
from app.cli.dispatch import show_report
from app.cli.output import data, notes, print_json
from app.models import RunState
from app.runs.report import CAME_TO_NOTHING, list_runs, report_run
from app.runs.states import OPEN
from app.settings import get_settings

app = typer.Typer(help="Runs: list, look at one, cancel.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command("list")
def list_(
    is_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only those that failed, were skipped or quarantined")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, the latest first."""
    states: tuple[RunState, ...] = tuple(OPEN) if is_open else ()
    states += CAME_TO_NOTHING if failed else ()
    with database(get_settings()) as engine, engine.connect() as connection:
        found = list_runs(connection, states=states, limit=limit)
    if as_json:
        print_json({"runs": found})
        return
    if not found:
        notes.print("no such runs")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("ID", "DUE (UTC)", "AGENT", "ORIGIN", "STATE", "REASON"):
        table.add_column(column, no_wrap=column != "REASON")
    for run in found:
        reason = Text(run.reason or "")
        table.add_row(str(run.id), _moment(run.due_at), run.agent, run.origin, run.state, reason)
    data.print(table)


@app.command("show")
def show(run_id: Annotated[UUID, typer.Argument(help="Id of the run")], as_json: AsJson = False) -> None:
    """Show a run with its calls and what it made."""
    with database(get_settings()) as engine, engine.connect() as connection:
        report = report_run(connection, run_id)
    if as_json:
        print_json(report)
    else:
        show_report(report)


def _cancelled(ask: CancelRuns, done: Done) -> str:
    wanted = len(set(ask.runs))
    others = "" if done.count == wanted else "; the others had ended"
    return f"{done.count} of {wanted} runs cancelled{others}; a call under way is still paid for"


app.command("cancel")(act("runs-cancel", _cancelled))


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
