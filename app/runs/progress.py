"""How the fleet is doing, as one value: for `paceline up`, `paceline status` and the dashboard."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from app.admission.limits import read_limits
from app.clock import cycle_start
from app.models import Agent, Comment, Post, Run, RunState
from app.runs import jobs, leases
from app.settings import Settings
from app.usage.calls import CallCounts, count_calls

RECENT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of the fleet. Counts are since `since`; `calls_per_s` is over the last 10 seconds."""

    at: datetime
    since: datetime
    cycle_at: datetime
    cycle_runs: dict[str, int]
    agents: int
    runs: dict[str, int]
    open_runs: int
    posts: int
    comments: int
    calls: CallCounts
    calls_per_s: float
    rate: float
    trouble: str | None
    scheduler_silence_s: float | None


def read_progress(
    connection: Connection, settings: Settings, now: datetime, since: datetime
) -> Progress:
    """Count what happened since then. Bounded by the caller's choice of `since`."""
    cycle_at = cycle_start(now, timedelta(seconds=settings.cycle.period_s))
    silence = jobs.scheduler_silence(connection)
    in_cycle = select(Run.state, func.count()).where(Run.cycle_at == cycle_at).group_by(Run.state)
    return Progress(
        at=now,
        since=since,
        cycle_at=cycle_at,
        cycle_runs={row.state: row[1] for row in connection.execute(in_cycle)},
        agents=connection.execute(select(func.count()).select_from(Agent)).scalar_one(),
        runs=leases.count_by_state(connection, since),
        open_runs=leases.count_open(connection),
        posts=connection.execute(
            select(func.count()).select_from(Post).where(Post.created_at >= since)
        ).scalar_one(),
        comments=connection.execute(
            select(func.count()).select_from(Comment).where(Comment.created_at >= since)
        ).scalar_one(),
        calls=count_calls(connection, since),
        calls_per_s=count_calls(connection, now - RECENT).total / RECENT.total_seconds(),
        rate=read_limits(connection, settings.limits).rate,
        trouble=_trouble(connection, cycle_at),
        scheduler_silence_s=None if silence is None else silence.total_seconds(),
    )


def _trouble(connection: Connection, cycle_at: datetime) -> str | None:
    """Why the latest run of this cycle that came to nothing did."""
    query = (
        select(Run.reason)
        .where(Run.cycle_at == cycle_at, Run.state.in_((RunState.FAILED, RunState.SKIPPED)))
        .order_by(Run.finished_at.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()
