"""`paceline status`: the fleet at a glance."""

from dataclasses import fields
from datetime import timedelta
from typing import Annotated

import typer

from app.cli.connect import database, desk
from app.cli.output import data, print_json
from app.clock import utcnow
from app.money import dollars
from app.runs.budgets import read_budgets, spent_of
from app.runs.progress import Progress, read_progress
from app.runs.stops import find_stops, look, name_who_paused, standing
from app.settings import get_settings


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Show what the fleet did in the last hour and where the present cycle stands."""
    settings, now = get_settings(), utcnow()
    with database(settings) as engine:
        stops = find_stops(look(desk(settings, engine).admission, settings, engine))
        with engine.connect() as connection:
            stops = name_who_paused(connection, stops)
            progress = read_progress(connection, settings, now, now - timedelta(hours=1))
            budgets = [b for b in read_budgets(connection, settings, now) if b.limit]
    state = standing(stops)
    if as_json:
        found = {"state": state, "stops": stops, "budgets": budgets}
        print_json(found | _fields(progress))
        return
    data.print(state.replace("_", " ").upper(), markup=False)
    for stop in stops:
        data.print(f"           {stop}", markup=False)
    data.print(describe(progress), markup=False)
    for budget in budgets:
        used = "  USED UP" if budget.is_used_up else ""
        data.print(f"budget     {budget.of}, {budget.period}: {spent_of(budget)}{used}", markup=False)


def _fields(progress: Progress) -> dict[str, object]:
    return {field.name: getattr(progress, field.name) for field in fields(progress)}


def describe(progress: Progress) -> str:
    """A progress as a few lines for a person."""
    calls = progress.calls
    cycle = ", ".join(f"{count} {state}" for state, count in sorted(progress.cycle_runs.items()))
    return (
        f"cycle      {progress.cycle_at:%Y-%m-%d %H:%M:%S} UTC: {cycle or 'nothing yet'}"
        f" of {progress.agents} agents\n"
        f"calls      {progress.calls_per_s:.1f}/s now, cap {progress.rate:g}/s\n"
        f"open runs  {progress.open_runs}\n"
        f"last hour  {calls.ok} calls ok, {calls.rate_limited} x 429, {calls.credits_exhausted} x 402, "
        f"{calls.other_errors} other errors, {calls.unknown} unknown\n"
        f"           {progress.posts} posts, {progress.comments} comments, "
        f"{calls.tokens_used:,} tokens, about {dollars(calls.cost_micros)}"
        + (f" and {calls.unpriced} calls of unknown cost" if calls.unpriced else "")
        + (
            f"\ntrouble    {progress.trouble} (the latest run that came to nothing)"
            if progress.trouble
            else ""
        )
    )
