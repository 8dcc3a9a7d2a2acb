"""Taking a run, holding it, ending it. Guarded updates only; the clock is the database's.

A lease that runs out is taken back by app/runs/rescue.py, and another worker claims the run with the
next `attempt`. The first worker's writes then match no row: `renew` and `end` answer False, and it
stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Connection, Interval, Text, Update, and_, bindparam, func, or_, select, update

from app.models import Agent, Run, RunState
from app.runs.states import OPEN, TERMINAL, WAITING
from app.statements import AnyConnection, Statement


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a run, for as long as `attempt` is its latest."""

    run_id: UUID
    agent_id: UUID
    attempt: int
    cycle_at: datetime | None
    opened_at: datetime
    expires_at: datetime | None
    is_expired: bool
    ticket: int | None

    @property
    def moment(self) -> str:
        """Seed of the run's dice, with the agent: the cycle, or the run itself when ad hoc."""
        return self.cycle_at.isoformat() if self.cycle_at else str(self.run_id)


LONGEST_SNOOZE = timedelta(minutes=1)
"""A snoozed run looks again at the latest after so long, because what it waits for may end sooner."""


_BEGINS_LATER = and_(Run.due_at > func.now(), Run.started_at.is_(None))
"""A run that somebody asked for at a later time: it waits as snoozed, but for that time only."""


class LeaseLost(Exception):
    """Another worker has the run now, or a person cancelled it."""


_HELD = update(Run).where(
    Run.id == bindparam("run_id"), Run.attempt == bindparam("held_attempt"), Run.state == RunState.RUNNING
)
"""Condition of every change of a held run: it is ours, or no row matches."""


def renewing() -> Update:
    """The statement of `renew` as a part of others, with the values of `held_by`."""
    return _HELD.values(lease_until=func.now() + bindparam("lease", type_=Interval)).returning(
        Run.id, Run.agent_id
    )


def held_by(held: Claim, lease: timedelta) -> dict[str, Any]:
    """Return the values that name the run and its holder in a statement that builds on `renewing`."""
    return {"run_id": held.run_id, "held_attempt": held.attempt, "lease": lease}


def claiming() -> Update:
    """The statement of `claim` as a part of others: what it returns, in this order, is a Claim."""
    return (
        update(Run)
        .where(Run.id == bindparam("run_id"), Run.agent_id.is_not(None), Run.state == RunState.QUEUED)
        .values(
            state=RunState.RUNNING,
            attempt=Run.attempt + 1,
            lease_until=func.now() + bindparam("lease", type_=Interval),
            worker=bindparam("holder"),
            started_at=func.coalesce(Run.started_at, func.now()),
        )
        .returning(
            Run.id,
            Run.agent_id,
            Run.attempt,
            Run.cycle_at,
            Run.created_at,
            Run.expires_at,
            func.coalesce(Run.expires_at < func.now(), False).label("is_expired"),
            Run.ticket,
        )
    )


def ending() -> tuple[CTE, CTE]:
    """The parts of the statement of `end`: the run, if it is ours, and its agent, served unless skipped."""
    ended = (
        _HELD.values(state=bindparam("to"), reason=bindparam("why"), finished_at=func.now(), lease_until=None)
        .returning(Run.id, Run.agent_id)
        .cte("ended")
    )
    served = (
        update(Agent)
        .where(Agent.id == ended.c.agent_id, bindparam("to", type_=Text) != RunState.SKIPPED)
        .values(last_run_at=func.now())
        .cte("served")
    )
    return ended, served


_CLAIM = Statement(claiming())
_RENEW = Statement(renewing())
_ENDED, _SERVED = ending()
_END = Statement(select(func.count()).select_from(_ENDED).add_cte(_SERVED))


def claim(connection: AnyConnection, run_id: UUID, lease: timedelta, worker: str = "") -> Claim | None:
    """Take a queued run; None if it is held, snoozed, ended or unknown."""
    taken = _CLAIM.first(connection, run_id=run_id, lease=lease, holder=worker)
    return Claim(*taken) if taken else None


def renew(connection: AnyConnection, held: Claim, lease: timedelta) -> bool:
    """Hold on to a run; False when it is no longer ours."""
    return _RENEW.first(connection, **held_by(held, lease)) is not None


def renew_all(connection: Connection, held: Sequence[Claim], lease: timedelta) -> None:
    """Hold on to several runs; those that are no longer ours are left alone."""
    connection.execute(
        update(Run)
        .where(
            Run.id == bindparam("run_id"),
            Run.attempt == bindparam("held_attempt"),
            Run.state == RunState.RUNNING,
        )
        .values(lease_until=func.now() + lease),
        [{"run_id": claim.run_id, "held_attempt": claim.attempt} for claim in held],
    )


def release(connection: Connection, held: Claim) -> bool:
    """Give a held run back for another worker to go on with; False when it is no longer ours."""
    released = connection.execute(
        update(Run)
        .where(Run.id == held.run_id, Run.attempt == held.attempt, Run.state == RunState.RUNNING)
        .values(state=RunState.QUEUED, lease_until=None, published_at=func.now())
    )
    return released.rowcount > 0


def end(connection: AnyConnection, held: Claim, state: RunState, reason: str | None) -> bool:
    """Put a held run into a terminal state; False when it is no longer ours."""
    return bool(_END.one(connection, **ended_as(held, state, reason))[0])


def ended_as(held: Claim, state: RunState, reason: str | None) -> dict[str, Any]:
    """The values of a statement that builds on `ending`."""
    assert state in TERMINAL
    return {"run_id": held.run_id, "held_attempt": held.attempt, "to": str(state), "why": reason}


def snooze(connection: Connection, held: Claim, wait: timedelta, ticket: int | None) -> bool:
    """Put a held run back until later, with its place in the line; False when it is no longer ours."""
    snoozed = connection.execute(
        update(Run)
        .where(Run.id == held.run_id, Run.attempt == held.attempt, Run.state == RunState.RUNNING)
        .values(state=RunState.SNOOZED, wake_at=func.now() + wait, ticket=ticket, lease_until=None)
    )
    return snoozed.rowcount > 0


def wake(connection: Connection, limit: int = 1_000) -> list[UUID]:
    """Queue the snoozed runs whose time has come, and return them to be published."""
    due = (
        select(Run.id)
        .where(
            Run.state == RunState.SNOOZED,
            # No run that has begun snoozes longer, so a later moment means that the clock went back.
            or_(
                Run.wake_at <= func.now(), and_(Run.wake_at > func.now() + 2 * LONGEST_SNOOZE, ~_BEGINS_LATER)
            ),
        )
        .order_by(Run.wake_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    woken = connection.execute(
        update(Run)
        .where(Run.id.in_(due))
        .values(state=RunState.QUEUED, published_at=func.now())
        .returning(Run.id)
    )
    return list(woken.scalars())


def wake_all(connection: Connection) -> int:
    """Let every snoozed run look again now, because what it waits for may have changed; returns how many."""
    snoozed = update(Run).where(Run.state == RunState.SNOOZED, Run.wake_at > func.now(), ~_BEGINS_LATER)
    return connection.execute(snoozed.values(wake_at=func.now())).rowcount


def cancel(connection: Connection, run_ids: Sequence[UUID], actor: str, reason: str) -> list[UUID]:
    """Skip open runs, and note who wanted it; return those that were open. The worker of a running one finds
    at its next write that the run is no longer its own, so it stops between two calls.
    """
    cancelled = connection.execute(
        update(Run)
        .where(Run.id.in_(run_ids), Run.state.in_(OPEN))
        .values(
            state=RunState.SKIPPED,
            reason=reason[:500],
            cancelled_by=actor,
            finished_at=func.now(),
            lease_until=None,
        )
        .returning(Run.id)
    )
    return list(cancelled.scalars())


def fail_waiting(connection: Connection, run_id: UUID, reason: str) -> bool:
    """Fail a run that waits unclaimed; False when it does not."""
    failed = connection.execute(
        update(Run)
        .where(Run.id == run_id, Run.state.in_(WAITING))
        .values(state=RunState.FAILED, reason=reason, finished_at=func.now())
    )
    return failed.rowcount > 0


def skip_waiting(connection: Connection, reason: str) -> int:
    """Skip every run that waits unclaimed; returns how many."""
    skipped = connection.execute(
        update(Run)
        .where(Run.state.in_(WAITING))
        .values(state=RunState.SKIPPED, reason=reason, finished_at=func.now())
    )
    return skipped.rowcount


def count_open(connection: Connection) -> int:
    """Runs not ended yet."""
    query = select(func.count()).select_from(Run).where(Run.state.in_(OPEN))
    return connection.execute(query).scalar_one()


@dataclass(frozen=True, slots=True)
class Line:
    """The runs of one origin that are not ended; each origin has its queue."""

    origin: str
    open: int
    running: int
    oldest_wait_s: float
    """Due time of the oldest queued run."""


def lines(connection: Connection) -> list[Line]:
    """Return the waiting and the running, by origin."""
    is_queued, count = Run.state == RunState.QUEUED, func.count()
    oldest = func.extract("epoch", func.now() - func.min(Run.due_at).filter(is_queued))
    query = (
        select(Run.origin, count, count.filter(Run.state == RunState.RUNNING), func.coalesce(oldest, 0))
        .where(Run.state.in_(OPEN))
        .group_by(Run.origin)
        .order_by(Run.origin)
    )
    return [Line(row[0], row[1], row[2], float(row[3])) for row in connection.execute(query)]
