"""Lines of `paceline up`, while it runs and when it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx2
from rich.live import Live
from sqlalchemy import Engine, select

from app.cli.output import data, notes
from app.cli.parts import Part
from app.clock import monotonic, utcnow
from app.errors import PacelineError
from app.models import Call, CallStatus, RunState
from app.money import dollars
from app.runs.progress import Progress, count_reasons, read_progress
from app.runs.report import CAME_TO_NOTHING
from app.runs.stops import Stop
from app.settings import Settings

PLAIN_EVERY_S = 5.0


def read(engine: Engine, settings: Settings, since: datetime) -> Progress:
    """The fleet now, counted from the start of this `up`."""
    with engine.connect() as connection:
        return read_progress(connection, settings, utcnow(), since)


@contextmanager
def display() -> Iterator[Callable[[Progress, list[Stop]], None]]:
    """On a terminal a line that lives, elsewhere a line now and then."""
    if notes.is_terminal:
        with Live(console=notes, auto_refresh=False, transient=True) as live:
            yield lambda progress, stops: live.update(_line(progress, stops), refresh=True)
        return
    shown_at = 0.0

    def show(progress: Progress, stops: list[Stop]) -> None:
        nonlocal shown_at
        if monotonic() - shown_at >= PLAIN_EVERY_S:
            shown_at = monotonic()
            notes.print(_line(progress, stops), soft_wrap=True, markup=False)

    yield show


def _line(progress: Progress, stops: list[Stop]) -> str:
    calls, ended = progress.calls, progress.ended_in_cycle
    waiting = sum(progress.cycle_runs.values()) - ended
    done = progress.cycle_runs.get(RunState.COMPLETED, 0)
    nothing = f", {ended - done} came to nothing" if ended > done else ""
    errors = calls.rate_limited + calls.credits_exhausted + calls.other_errors
    trouble = f" · {progress.trouble}" if progress.trouble else ""
    return (
        f"{progress.at:%H:%M:%S}  cycle {progress.cycle_at:%H:%M:%S}: "
        f"{done}/{progress.agents} agents done{nothing}, {waiting} waiting · "
        f"{progress.calls_per_s:.1f} of {progress.rate:g} calls/s · "
        f"{progress.posts} posts, {progress.comments} comments · "
        f"{errors} errors"
        + (f" ({calls.rate_limited} x 429)" if calls.rate_limited else "")
        + (f" · {stops[0].standing.replace('_', ' ').upper()}: {stops[0]}" if stops else trouble)
    )


def summarize(
    engine: Engine,
    settings: Settings,
    since: datetime,
    began: float,
    parts: list[Part],
    gateway_url: str,
    killed: list[str],
) -> dict[str, Any]:
    """The whole run in numbers; `since` is when its parts started, `began` when the command did."""
    progress = read(engine, settings, since)
    with engine.connect() as connection:
        first = connection.execute(
            select(Call.finished_at)
            .where(Call.created_at >= since, Call.status == CallStatus.OK)
            .order_by(Call.created_at)
            .limit(1)
        ).scalar_one_or_none()
        reasons = count_reasons(connection, since, 5)
    seconds = (progress.at - since).total_seconds()
    calls = progress.calls
    return {
        "seconds": round(seconds, 1),
        "start_up_s": round(monotonic() - began - seconds, 2),
        "first_call_s": first and round((first - since).total_seconds(), 2),
        "agents": progress.agents,
        "runs": progress.runs,
        "open_runs": progress.open_runs,
        "reasons": reasons,
        "posts": progress.posts,
        "comments": progress.comments,
        "calls": {
            "total": calls.total,
            "ok": calls.ok,
            "rate_limited": calls.rate_limited,
            "credits_exhausted": calls.credits_exhausted,
            "other_errors": calls.other_errors,
            "in_flight": calls.in_flight,
            "unknown": calls.unknown,
        },
        "tokens_used": calls.tokens_used,
        "cost_micros": calls.cost_micros,
        "calls_of_unknown_cost": calls.unpriced,
        "rate": settings.limits.rate,
        "restarts": {part.name: part.restarts for part in parts if part.restarts},
        "killed": killed,
        "nothing_ran": why_nothing_runs(progress, parts, settings, seconds)
        or _none_completed(progress, reasons),
        "sandbox": None if settings.gateway_url else _tally(gateway_url),
    }


def _tally(gateway_url: str) -> dict[str, Any] | None:
    """The sandbox's own count, if it still answers."""
    try:
        with httpx2.Client(timeout=5, trust_env=False) as client:
            tally: dict[str, Any] = client.get(gateway_url.removesuffix("/v1") + "/sandbox/tally").json()
    except (httpx2.HTTPError, ValueError):
        return None
    return {name: tally[name] for name in ("requests", "by_status", "repeated_request_ids")}


def why_nothing_runs(progress: Progress, parts: list[Part], settings: Settings, seconds: float) -> str | None:
    """Return what the workers say when runs wait for longer than two slices and nobody has taken one; else
    None.
    """
    if seconds < 2 * settings.cycle.slice_length_s + 10:
        return None
    taken = sum(count for state, count in progress.runs.items() if state != RunState.QUEUED)
    if taken or not progress.runs.get(RunState.QUEUED):
        return None
    said = {part.last_line() for part in parts if part.name.startswith("worker")}
    return f"no worker takes runs; their logs end with: {' / '.join(sorted(said))}"


def _none_completed(progress: Progress, reasons: dict[str, int]) -> str | None:
    """Return the sentence that no ended run had a result, with the most frequent reason; else None."""
    ended = sum(progress.runs.get(state, 0) for state in CAME_TO_NOTHING)
    if not ended or progress.runs.get(RunState.COMPLETED):
        return None
    return f"none of {ended} runs completed: {next(iter(reasons), 'their reasons are unknown')}"


def show_reasons(summary: dict[str, Any]) -> None:
    """Why runs came to nothing: a note that nobody may miss, whoever reads the summary."""
    for reason, count in summary["reasons"].items():
        runs = "1 run" if count == 1 else f"{count} runs"
        notes.print(f"{runs} came to nothing: {reason}", style="yellow", markup=False)


def show_summary(summary: dict[str, Any]) -> None:
    """The same for a person; raises PacelineError when something had to be killed."""
    runs = ", ".join(f"{count} {state}" for state, count in sorted(summary["runs"].items())) or "none"
    calls, unknown = summary["calls"], summary["calls_of_unknown_cost"]
    data.print(
        f"ran {summary['seconds']:.0f} s: runs {runs}; {calls['total']} calls"
        f" ({calls['ok']} ok, {calls['rate_limited']} x 429, {calls['credits_exhausted']} x 402,"
        f" {calls['other_errors']} other errors); {summary['posts']} posts, {summary['comments']} comments;"
        f" about {dollars(summary['cost_micros'])}"
        + (f" and {unknown} calls of unknown cost" if unknown else ""),
        markup=False,
    )
    if summary["nothing_ran"]:
        raise PacelineError(summary["nothing_ran"])
    if summary["killed"]:
        raise PacelineError(f"had to kill {', '.join(summary['killed'])}: see the logs")
