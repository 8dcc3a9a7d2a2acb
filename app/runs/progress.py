"""How the fleet is doing, as one value: for `paceline up`, `paceline status` and the dashboard."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, func, or_, select, text, true
from sqlalchemy.orm import InstrumentedAttribute

from app.agents.activities import ActivityKind
from app.clock import cycle_start
from app.models import Agent, AgentState, Call, Comment, Limits, Post, Run, RunState
from app.runs import jobs
from app.runs.states import OPEN
from app.settings import Settings
from app.usage.calls import CallCounts, counts_since

RECENT = timedelta(seconds=10)
TROUBLE_LASTS = timedelta(seconds=20)
STEPS = "|".join(ActivityKind)
"""A step is named by its activity, with a number where a turn has several."""
DISTINCT_REASONS = 2_000
"""A reason may hold a text of the moment, so there may be as many as runs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of the fleet. Counts are since `since`; `calls_per_s` is over the last 10 seconds."""

    at: datetime
    since: datetime
    cycle_at: datetime
    cycle_runs: dict[str, int]
    agents: int
    active_agents: int
    runs: dict[str, int]
    open_runs: int
    posts: int
    comments: int
    calls: CallCounts
    calls_per_s: float
    rate: float
    trouble: str | None
    scheduler_silence_s: float | None

    @property
    def ended_in_cycle(self) -> int:
        """Runs of this cycle that have ended, in whatever way."""
        return sum(count for state, count in self.cycle_runs.items() if state not in OPEN)


def read_progress(connection: Connection, settings: Settings, now: datetime, since: datetime) -> Progress:
    """Count what happened since then. Bounded by the caller's choice of `since`."""
    period = timedelta(seconds=settings.cycle.period_s)
    cycle_at = cycle_start(now, period)
    is_in_cycle, is_recent = Run.cycle_at == cycle_at, Run.created_at >= since
    states = (
        select(
            Run.state,
            func.count().filter(is_in_cycle).label("in_cycle"),
            func.count().filter(is_recent).label("recent"),
        )
        # what an index finds: a run is opened within its cycle, an ad-hoc one when it is due
        .where(
            or_(
                Run.cycle_at >= min(cycle_at, since - period),
                and_(Run.cycle_at.is_(None), Run.due_at >= since - period),
            ),
            or_(is_in_cycle, is_recent),
        )
        .group_by(Run.state)
        .subquery()
    )
    by_state = select(func.json_agg(func.json_build_array(*states.c))).scalar_subquery()
    calls = counts_since(since).subquery()
    is_active = Agent.state == AgentState.ACTIVE
    fleet = select(
        func.count().label("agents"), func.count().filter(is_active).label("active_agents")
    ).subquery()
    facts = connection.execute(
        select(
            *fleet.c,
            _count(Run.id, Run.state.in_(OPEN)).label("open_runs"),
            _count(Post.id, Post.created_at >= since).label("posts"),
            _count(Comment.id, Comment.created_at >= since).label("comments"),
            _count(Call.id, Call.created_at >= now - RECENT).label("recent_calls"),
            select(Limits.rate).scalar_subquery().label("rate"),
            _trouble(cycle_at).label("trouble"),
            jobs.silence_s().label("silence_s"),
            by_state.label("by_state"),
            *calls.c,
        ).select_from(calls.join(fleet, true()))
    ).one()
    return Progress(
        at=now,
        since=since,
        cycle_at=cycle_at,
        cycle_runs={state: in_cycle for state, in_cycle, _ in facts.by_state or () if in_cycle},
        agents=facts.agents,
        active_agents=facts.active_agents,
        runs={state: recent for state, _, recent in facts.by_state or () if recent},
        open_runs=facts.open_runs,
        posts=facts.posts,
        comments=facts.comments,
        calls=CallCounts(*(int(getattr(facts, name)) for name in CallCounts.__slots__)),
        calls_per_s=facts.recent_calls / RECENT.total_seconds(),
        rate=settings.limits.rate if facts.rate is None else facts.rate,
        trouble=facts.trouble,
        scheduler_silence_s=None if facts.silence_s is None else float(facts.silence_s),
    )


def count_reasons(connection: Connection, since: datetime, limit: int) -> dict[str, int]:
    """Why runs opened since then came to nothing: an example of each cause, the most frequent first."""
    count = func.count()
    query = (
        select(func.coalesce(Run.reason, "no reason given"), count)
        .where(Run.created_at >= since, Run.state.in_((RunState.FAILED, RunState.SKIPPED)))
        .group_by(Run.reason)
        .order_by(count.desc(), Run.reason)
        .limit(DISTINCT_REASONS)
    )
    examples: dict[str, str] = {}
    counts = Counter[str]()
    for reason, runs in connection.execute(query):
        cause = _cause(reason)
        examples.setdefault(cause, reason)
        counts[cause] += runs
    return {examples[cause]: runs for cause, runs in counts.most_common(limit)}


def _cause(reason: str) -> str:
    """The code in a reason like `comment1: not_stored: PostgreSQL refused it (...)`; else all of it."""
    found = re.match(rf"(?:(?:{STEPS})\w*: )?([a-z][a-z_0-9]*)(?:: |$)", reason)
    return found[1] if found else reason


def _count(column: InstrumentedAttribute[UUID], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count(column)).where(*where).scalar_subquery()


def _trouble(cycle_at: datetime) -> ScalarSelect[str | None]:
    """Why the latest run of this cycle that came to nothing did; none when one completed well after it."""
    completed = select(func.max(Run.finished_at)).where(
        Run.cycle_at == cycle_at, Run.state == RunState.COMPLETED
    )
    well_before = completed.scalar_subquery() - TROUBLE_LASTS
    return (
        select(
            func.to_char(func.timezone("UTC", Run.finished_at), "HH24:MI:SS").concat(": ").concat(Run.reason)
        )
        .where(Run.cycle_at == cycle_at, Run.state.in_((RunState.FAILED, RunState.SKIPPED)))
        .where(Run.finished_at > func.coalesce(well_before, text("'-infinity'")))
        .order_by(Run.finished_at.desc())
        .limit(1)
        .scalar_subquery()
    )
