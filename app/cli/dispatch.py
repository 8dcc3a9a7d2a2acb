"""`paceline dispatch`: start one agent now."""

from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Engine

from app.actions.agents import start_runs
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json
from app.errors import CameToNothing, PacelineError, Unreachable
from app.models import RunState
from app.runs.report import RunReport, report_run, wait_for_run
from app.runs.states import TERMINAL
from app.runs.stops import find_stops, look
from app.settings import get_settings
from app.usage.calls import say_cost


def dispatch(
    handle: Annotated[str, typer.Argument(help="Handle or id of the agent")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run and show it")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most", min=1)] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Start an agent now, ahead of the cycle's backlog."""
    settings = get_settings()
    with database(settings) as engine:
        at = desk(settings, engine)
        (run_id,) = start_runs(at, [handle], me(""))
        report = _wait_for(engine, run_id, timeout) if wait else _report(engine, run_id)
        why = None
        if report.state not in TERMINAL:
            why = next(iter(find_stops(look(at.admission, settings, engine))), None)
    if as_json:
        print_json(report)
    else:
        show_report(report)
    if wait and report.state not in TERMINAL:
        raise Unreachable(
            f"run {run_id} is still {report.state} after {timeout:g} s, and goes on: "
            + (str(why) if why else "is a worker running? `paceline doctor` says")
        )
    if wait and report.state in (RunState.FAILED, RunState.QUARANTINED):
        raise PacelineError(f"run {report.state}: {report.reason}")
    if wait and report.state == RunState.SKIPPED:
        raise CameToNothing(f"run skipped: {report.reason}")


def _report(engine: Engine, run_id: UUID) -> RunReport:
    with engine.connect() as connection:
        return report_run(connection, run_id)


def _wait_for(engine: Engine, run_id: UUID, timeout: float) -> RunReport:
    with notes.status("waiting for the run ..."):
        return wait_for_run(engine, run_id, timeout)


def show_report(report: RunReport) -> None:
    """A run for a person."""
    reason = f" ({report.reason})" if report.reason else ""
    data.print(f"run {report.id} of {report.agent}: {report.state}{reason}", markup=False)
    for post in report.posts:
        data.print(f"  post     {post}", markup=False)
    for comment in report.comments:
        data.print(f"  comment  {comment}", markup=False)
    for call in report.calls:
        data.print(f"  call     {describe_call(call)}", markup=False)


def describe_call(call: dict[str, Any]) -> str:
    """A call in a line."""
    said = [f"{call['step']} {call['model']} {call['status']}"]
    if call["error_code"]:
        http = f" ({call['http_status']})" if call["http_status"] else ""
        said[0] += f" {call['error_code']}{http}"
    if call["latency_ms"] is not None:
        said.append(f"{call['latency_ms']} ms")
    if call["tokens_input"] is not None:
        said.append(f"{call['tokens_input']}+{call['tokens_output']} tokens")
    return ", ".join([*said, say_cost(call)])
