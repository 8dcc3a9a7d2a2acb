"""`paceline limits`, `pause`, `resume`: what may be called and spent, changed while the fleet runs."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Engine

from app import acts
from app.actions import inputs
from app.actions.inputs import given
from app.admission.limits import Limits, read_limits
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json
from app.errors import ConfigError
from app.money import dollars, with_held
from app.runs.stops import Look, Stop, find_stops, look, name_who_paused
from app.settings import Settings, get_settings

app = typer.Typer(help="Rate, quotas and budgets.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; goes into the audit log")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def _look(settings: Settings, engine: Engine) -> tuple[Look, list[Stop]]:
    seen = look(desk(settings, engine).admission, settings, engine)
    if seen.state is None:
        notes.print("Redis does not answer: calls wait, and its state is not shown", style="yellow")
    with engine.connect() as connection:
        return seen, name_who_paused(connection, find_stops(seen))


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show the limits in force, the effective rate, pauses and the breaker."""
    settings = get_settings()
    with database(settings) as engine:
        with engine.begin() as connection:
            limits = read_limits(connection, settings.limits)
        seen, stops = _look(settings, engine)
    _print(limits, seen, stops, as_json=as_json)


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
        inputs.SetLimits, reason, rate=rate, burst=burst, max_wait_s=max_wait,
        tokens_per_minute=tokens_per_minute, agent_daily_tokens=agent_daily_tokens,
    )  # fmt: skip
    budget = given(inputs.SetBudget, reason, day_usd=budget_day, month_usd=budget_month)
    changes = limits.changes | budget.in_micros
    if not changes:
        raise ConfigError(
            "nothing to change: give at least one of --rate, --burst, --budget-day, ..."
        )
    _act(lambda at, who: acts.set_limits(at, changes, who), reason, as_json=as_json)


def pause(
    minutes: Annotated[
        float | None, typer.Option("--for", help="Minutes; default: until resume")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"],
            help="Until that moment, of the business time zone unless it names one",
        ),
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Stop all gateway calls and all new runs; calls under way finish."""
    pause_ = given(inputs.Pause, reason, minutes=minutes, until=until)
    _act(
        lambda at, who: acts.pause(at, pause_.minutes, who, until=pause_.until),
        reason,
        as_json=as_json,
    )


def resume(reason: Reason = "", as_json: AsJson = False) -> None:
    """End a pause, a stop by the gateway (credits, key, quota) and the wait after a 429."""
    _act(acts.resume, reason, as_json=as_json)


def _act(act: Callable[[acts.Desk, acts.Who], Limits], reason: str, *, as_json: bool) -> None:
    settings = get_settings()
    with database(settings) as engine:
        at = desk(settings, engine)
        limits = act(at, me(reason))
        seen, stops = _look(settings, engine)
    _print(limits, seen, stops, as_json=as_json)


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
        (
            "rate",
            f"{limits.rate:g} calls/s, burst {limits.burst}, a run waits up to {limits.max_wait_s:g} s",
        ),
        ("tokens per minute", _or_none(limits.tokens_per_minute)),
        ("tokens per agent and day", _or_none(limits.agent_daily_tokens)),
        (
            "budget per day",
            dollars(limits.budget_day_micros) if limits.budget_day_micros else "no limit",
        ),
        (
            "budget per month",
            dollars(limits.budget_month_micros) if limits.budget_month_micros else "no limit",
        ),
    ]
    state = seen.state
    if state is None:
        return rows
    rows += [
        (
            "in force",
            f"version {state.version} of {limits.version}, {seen.allowed_rate:g} calls/s now",
        ),
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
