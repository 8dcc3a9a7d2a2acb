"""How the fleet is doing, as one value: for `paceline up`, `paceline status` and the dashboard."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, ScalarSelect, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from app.admission.limits import read_limits
from app.clock import cycle_start
from app.models import Agent, Call, Comment, Post, Run, RunState
from app.runs import jobs
from app.runs.states import OPEN
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
    is_in_cycle, is_recent = Run.cycle_at == cycle_at, Run.created_at >= since
    by_state = connection.execute(
        select(Run.state, func.count().filter(is_in_cycle), func.count().filter(is_recent))
        .where(or_(is_in_cycle, is_recent))
        .group_by(Run.state)
    ).all()
    facts = connection.execute(
        select(
            _count(Agent.id),
            _count(Run.id, Run.state.in_(OPEN)),
            _count(Post.id, Post.created_at >= since),
            _count(Comment.id, Comment.created_at >= since),
            _count(Call.id, Call.created_at >= now - RECENT),
            _trouble(cycle_at),
            jobs.silence_s(),
        )
    ).one()
    return Progress(
        at=now,
        since=since,
        cycle_at=cycle_at,
        cycle_runs={row[0]: row[1] for row in by_state if row[1]},
        agents=facts[0],
        runs={row[0]: row[2] for row in by_state if row[2]},
        open_runs=facts[1],
        posts=facts[2],
        comments=facts[3],
        calls=count_calls(connection, since),
        calls_per_s=facts[4] / RECENT.total_seconds(),
        rate=read_limits(connection, settings.limits).rate,
        trouble=facts[5],
        scheduler_silence_s=None if facts[6] is None else float(facts[6]),
    )


def count_reasons(connection: Connection, since: datetime, limit: int) -> dict[str, int]:
    """Why runs opened since then came to nothing, the most frequent reasons first."""
    count = func.count()
    query = (
        select(func.coalesce(Run.reason, "no reason given"), count)
        .where(Run.created_at >= since, Run.state.in_((RunState.FAILED, RunState.SKIPPED)))
        .group_by(Run.reason)
        .order_by(count.desc(), Run.reason)
        .limit(limit)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _count(column: InstrumentedAttribute[UUID], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count(column)).where(*where).scalar_subquery()


def _trouble(cycle_at: datetime) -> ScalarSelect[str | None]:
    """Why the latest run of this cycle that came to nothing did."""
    return (
        select(Run.reason)
        .where(Run.cycle_at == cycle_at, Run.state.in_((RunState.FAILED, RunState.SKIPPED)))
        .order_by(Run.finished_at.desc())
        .limit(1)
        .scalar_subquery()
    )
