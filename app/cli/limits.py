"""`paceline limits`, `pause`, `resume`: what may be called and spent, changed while the fleet runs."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from app.actions import Desk, fleet
from app.actions.inputs import given
from app.admission.limits import Limits, read_limits
from app.cli.acting import act
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json
from app.errors import ConfigError
from app.money import dollars, with_held
from app.runs.stops import Look, Stop, find_stops, look, name_who_paused
from app.settings import get_settings

app = typer.Typer(help="Rate, quotas and budgets.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def _look(at: Desk) -> tuple[Look, list[Stop]]:
    seen = look(at.admission, at.settings, at.engine)
    if seen.state is None:
        notes.print("Redis does not answer: calls wait, and its state is not shown", style="yellow")
    with at.engine.connect() as connection:
        return seen, name_who_paused(connection, find_stops(seen))


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show the limits in force, the effective rate, pauses and the breaker."""
    settings = get_settings()
    with database(settings) as engine:
        _after(desk(settings, engine), as_json)


@app.command("set")
def set_limits(
    rate: Annotated[float | None, typer.Option(help="Calls per second")] = None,
    burst: Annotated[int | None, typer.Option(help="Calls that may start at once")] = None,
    max_wait: Annotated[float | None, typer.Option(help="Seconds a run waits on a worker")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="LLM tokens; 0: no limit")] = None,
    agent_daily_tokens: Annotated[int | None, typer.Option(help="LLM tokens; 0: no limit")] = None,
    budget_day: Annotated[float | None, typer.Option(help="Dollars; 0: no limit")] = None,
    budget_month: Annotated[float | None, typer.Option(help="Dollars; 0: no limit")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change limits; every worker's next call sees them, without a restart."""
    limits = given(
        fleet.SetLimits,
        reason,
        rate=rate,
        burst=burst,
        max_wait_s=max_wait,
        tokens_per_minute=tokens_per_minute,
        agent_daily_tokens=agent_daily_tokens,
    )
    budget = given(fleet.SetBudget, reason, day_usd=budget_day, month_usd=budget_month)
    changes = limits.changes | budget.in_micros
    if not changes:
        raise ConfigError("nothing to change: give at least one of --rate, --burst, --budget-day, ...")
    settings = get_settings()
    with database(settings) as engine:
        at = desk(settings, engine)
        fleet.set_limits(at, changes, me(reason))
        _after(at, as_json)


def _after(at: Desk, as_json: bool) -> None:
    with at.engine.begin() as connection:
        limits = read_limits(connection, at.settings.limits)
    seen, stops = _look(at)
    _print(limits, seen, stops, as_json=as_json)


pause = act(
    "pause",
    after=_after,
    options={"minutes": "--for"},
    help="Stop all gateway calls and all new runs; calls under way finish.",
)
resume = act(
    "resume",
    after=_after,
    help="End a pause, a stop by the gateway (credits, key, quota) and the wait after a 429.",
)


def _print(limits: Limits, seen: Look, stops: list[Stop], *, as_json: bool) -> None:
    if as_json:
        state = seen.state
        print_json({"limits": asdict(limits), "state": state and asdict(state), "stops": stops})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _rows(limits, seen, stops):
        table.add_row(name, value)
    data.print(table)


def _rows(limits: Limits, seen: Look, stops: list[Stop]) -> list[tuple[str, str]]:
    rows = [
        ("rate", f"{limits.rate:g} calls/s, burst {limits.burst}, a run waits up to {limits.max_wait_s:g} s"),
        ("tokens per minute", _or_none(limits.tokens_per_minute)),
        ("tokens per agent and day", _or_none(limits.agent_daily_tokens)),
        ("budget per day", dollars(limits.budget_day_micros) if limits.budget_day_micros else "no limit"),
        (
            "budget per month",
            dollars(limits.budget_month_micros) if limits.budget_month_micros else "no limit",
        ),
    ]
    state = seen.state
    if state is None:
        return rows
    rows += [
        ("in force", f"version {state.version} of {limits.version}, {seen.allowed_rate:g} calls/s now"),
        ("reserved", f"{state.reserved} calls waiting or under way"),
        *(
            (
                "spent today" if budget.period == "day" else "spent this month",
                dollars(budget.used) + with_held(budget.held),
            )
            for budget in state.budgets
        ),
        ("gateway", "answers" if state.stop_reason is None else f"stopped: {state.stop_reason}"),
    ]
    return rows + [(stop.standing.replace("_", " ").upper(), str(stop)) for stop in stops]


def _or_none(value: int) -> str:
    return f"{value:,}" if value else "no limit"
