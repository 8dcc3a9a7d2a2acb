"""One run with what it made and what it cost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, func, select, tuple_

from app.clock import monotonic, sleep
from app.errors import NotFound
from app.models import Agent, Comment, Post, Run, RunOrigin, RunState
from app.runs.states import TERMINAL
from app.usage.calls import calls_of_runs


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as a person asks about it."""

    id: UUID
    agent: str
    origin: str
    state: str
    reason: str | None
    attempt: int
    cycle_at: datetime | None
    due_at: datetime
    created_at: datetime
    started_at: datetime | None
    wake_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    losses: int
    posts: list[str]
    comments: list[str]
    calls: list[dict[str, Any]]
    cost_micros: int
    """Sum over the calls whose cost is known."""
    cancelled_by: str | None = None


def report_run(connection: Connection, run_id: UUID) -> RunReport:
    """Read a run; it must exist."""
    found = find_run(connection, run_id)
    if found is None:
        raise NotFound(f"no run {run_id}")
    return found


def find_run(connection: Connection, run_id: UUID) -> RunReport | None:
    """Read a run; None when there is no such one."""
    return find_runs(connection, [run_id]).get(run_id)


_OWN = (
    "id",
    "origin",
    "state",
    "reason",
    "attempt",
    "cycle_at",
    "due_at",
    "created_at",
    "started_at",
    "wake_at",
    "finished_at",
    "worker",
    "losses",
    "cancelled_by",
)


def find_runs(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, RunReport]:
    """Read runs, in four queries however many; those that do not exist are left out."""
    query = (
        select(Run.agent_id, Run.asked_for, Agent.handle, *(getattr(Run, name) for name in _OWN))
        .join(Agent, Agent.id == Run.agent_id, isouter=True)
        .where(Run.id.in_(run_ids))
    )
    runs = {run.id: run for run in connection.execute(query)}
    if not runs:
        return {}
    posts, comments = defaultdict[UUID, list[str]](list), defaultdict[UUID, list[str]](list)
    for row in connection.execute(select(Post.run_id, Post.body).where(Post.run_id.in_(runs))):
        posts[row.run_id].append(row.body)
    written = select(Comment.run_id, Comment.body).where(Comment.run_id.in_(runs))
    for row in connection.execute(written.order_by(Comment.slot)):
        comments[row.run_id].append(row.body)
    agents = {run.agent_id for run in runs.values() if run.agent_id}
    since = min(run.created_at for run in runs.values())
    calls = calls_of_runs(connection, agents, runs, since)
    return {
        run_id: RunReport(
            **{name: getattr(run, name) for name in _OWN},
            agent=run.handle or run.asked_for or "?",
            posts=posts[run_id],
            comments=comments[run_id],
            calls=calls[run_id],
            cost_micros=sum(call["cost_micros"] or 0 for call in calls[run_id]),
        )
        for run_id, run in runs.items()
    }


def find_ended(connection: Connection, run_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these runs that have ended."""
    query = select(Run.id).where(Run.id.in_(run_ids), Run.state.in_(TERMINAL))
    return list(connection.execute(query).scalars())


def wait_for_run(engine: Engine, run_id: UUID, timeout_s: float) -> RunReport:
    """The run when it has ended, or as it is after that time."""
    deadline = monotonic() + timeout_s
    while True:
        with engine.connect() as connection:
            report = report_run(connection, run_id)
        if report.state in TERMINAL or monotonic() > deadline:
            return report
        sleep(0.1)


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in an agent's timeline."""

    id: UUID
    created_at: datetime
    origin: str
    state: str
    reason: str | None
    post: str | None
    comments: int


def runs_of_agent(connection: Connection, agent_id: UUID, limit: int) -> list[RunLine]:
    """The agent's latest runs, the newest first."""
    comments = select(func.count()).select_from(Comment).where(Comment.run_id == Run.id).scalar_subquery()
    query = (
        select(Run.id, Run.created_at, Run.origin, Run.state, Run.reason, Post.body, comments)
        .join(Post, Post.run_id == Run.id, isouter=True)
        .where(Run.agent_id == agent_id)
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return [RunLine(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run in the fleet's list."""

    id: UUID
    agent: str
    origin: str
    state: str
    reason: str | None
    attempt: int
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None


CAME_TO_NOTHING = (RunState.FAILED, RunState.SKIPPED, RunState.QUARANTINED)


def list_runs(
    connection: Connection,
    *,
    states: Sequence[RunState] = (),
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[ListedRun]:
    """Runs of the fleet by when they fell due, the latest first; those behind `before` (a run's `due_at` and
    id) first come. Cycle and ad-hoc runs are read apart, because an index has them apart.
    """
    columns: tuple[Any, ...] = (
        Run.id,
        func.coalesce(Agent.handle, Run.asked_for, "?"),
        Run.origin,
        Run.state,
        Run.reason,
        Run.attempt,
        Run.due_at,
        Run.started_at,
        Run.finished_at,
        Run.worker,
    )
    found: list[ListedRun] = []
    for is_cycle in (True, False):
        query = select(Run.id)
        if states:
            query = query.where(Run.state.in_(states), Run.origin == _ORIGIN[is_cycle])
            order: tuple[ColumnElement[Any], ...] = (Run.due_at.desc(), Run.id.desc())
        elif is_cycle:
            query = query.where(Run.cycle_at.is_not(None))
            order = (Run.cycle_at.desc(), Run.due_at.desc(), Run.id.desc())
        else:
            query = query.where(Run.cycle_at.is_(None))
            order = (Run.due_at.desc(), Run.id.desc())
        if before is not None:
            query = query.where(tuple_(Run.due_at, Run.id) < tuple_(*before))
            if is_cycle:  # so that the index is entered where the page begins
                query = query.where(Run.cycle_at <= before[0])
        chosen = query.order_by(*order).limit(limit).subquery()
        named = select(*columns).join(chosen, chosen.c.id == Run.id)
        named = named.join(Agent, Agent.id == Run.agent_id, isouter=True)
        found += [ListedRun(*row) for row in connection.execute(named)]
    return sorted(found, key=lambda run: (run.due_at, run.id), reverse=True)[:limit]


_ORIGIN = {True: RunOrigin.CYCLE, False: RunOrigin.ADHOC}
