"""`paceline status`: the fleet at a glance."""

from datetime import timedelta
from typing import Annotated

import typer

from app.cli.connect import database
from app.cli.output import data, print_json
from app.clock import utcnow
from app.runs.progress import Progress, read_progress
from app.settings import get_settings


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show what the fleet did in the last hour and where the present cycle stands."""
    settings, now = get_settings(), utcnow()
    with database(settings) as engine, engine.connect() as connection:
        progress = read_progress(connection, settings, now, now - timedelta(hours=1))
    if as_json:
        print_json(progress)
    else:
        data.print(describe(progress), markup=False)


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
        f"{calls.tokens_used:,} tokens, about ${calls.cost_micros / 1e6:.4f}"
        + (f" and {calls.unpriced} calls without a price" if calls.unpriced else "")
        + (f"\ntrouble    {progress.trouble}" if progress.trouble else "")
    )
