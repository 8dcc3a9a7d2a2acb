"""Finding what got stuck, and setting it going again. Postgres is the truth, a message is a hint.

* A run whose worker went silent is queued again; the third time it is quarantined with its agent,
  because it probably kills its workers.
* A queued run that nobody took for a while is published again: its message was lost, or is still in
  the queue, and then the second one finds the run taken.
* A run that waits past the end of its cycle is skipped.
* A run that has ended, and what follows it was not begun: it is published, so that a worker begins it.
* A call that is in flight past its deadline is given up: nobody knows what came of it.

Every statement locks what it takes and skips what another rescuer has, so several at once do no harm.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, case, func, or_, select, update

from app.audit_log import note_change
from app.models import Agent, AgentState, Run, RunState
from app.refusals import EXPIRED, EXPIRED_ADHOC
from app.runs import groups
from app.runs.states import WAITING
from app.usage import calls

PATIENCE, PATIENCE_IDLE = timedelta(seconds=60), timedelta(seconds=10)
"""How long a queued run may go unclaimed: while messages wait in Redis, and when none do."""
LOSSES_MAX = 3
CLOCK_SLACK = timedelta(seconds=5)
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Rescued:
    """Result of one round. `to_publish` are the runs that workers must be told of."""

    resumed: list[UUID] = field(default_factory=list)
    unheard: list[UUID] = field(default_factory=list)
    unfollowed: list[UUID] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    expired: int = 0
    calls_unknown: int = 0

    @property
    def to_publish(self) -> list[UUID]:
        """Runs that are queued again or still, or whose followers wait."""
        return [*self.resumed, *self.unheard, *self.unfollowed]

    def __str__(self) -> str:
        return (
            f"{len(self.resumed)} resumed, {len(self.unheard)} published again, "
            f"{len(self.unfollowed)} followed, "
            f"{self.expired} expired, {len(self.quarantined)} quarantined, "
            f"{self.calls_unknown} calls unknown"
        )


def rescue(
    connection: Connection,
    *,
    patience: timedelta,
    call_deadline: timedelta,
    lease: timedelta = timedelta(seconds=30),
) -> Rescued:
    """One round. `patience`: how long a queued run may go unclaimed before it is published again; `lease`:
    how long workers hold a run without renewing.
    """
    _shorten_leases(connection, lease)
    lost = _lost(connection)
    poisonous = [run_id for run_id, losses in lost if losses + 1 >= LOSSES_MAX]
    resumable = [run_id for run_id, losses in lost if losses + 1 < LOSSES_MAX]
    return Rescued(
        resumed=_resume(connection, resumable),
        quarantined=_quarantine(connection, poisonous),
        expired=_expire(connection),
        unheard=_hear_again(connection, patience),
        unfollowed=groups.to_continue(connection),
        calls_unknown=calls.give_up(connection, call_deadline),
    )


def _shorten_leases(connection: Connection, lease: timedelta) -> None:
    """After the clock went back, leases reach far into the future. Cut them to one lease from now: who lives
    renews meanwhile, and the runs of the dead are free after it.
    """
    far = func.now() + lease + CLOCK_SLACK
    connection.execute(
        update(Run)
        .where(Run.state == RunState.RUNNING, Run.lease_until > far)
        .values(lease_until=func.now() + lease)
    )


def _lost(connection: Connection) -> list[tuple[UUID, int]]:
    query = (
        select(Run.id, Run.losses)
        .where(Run.state == RunState.RUNNING, Run.lease_until < func.now())
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    return [(row.id, row.losses) for row in connection.execute(query)]


def _resume(connection: Connection, run_ids: list[UUID]) -> list[UUID]:
    if run_ids:
        connection.execute(
            update(Run)
            .where(Run.id.in_(run_ids))
            .values(state=RunState.QUEUED, losses=Run.losses + 1, lease_until=None, published_at=func.now())
        )
    return run_ids


def _quarantine(connection: Connection, run_ids: list[UUID]) -> list[str]:
    """End runs that went down with three workers, and keep their agents from further ones."""
    if not run_ids:
        return []
    reason = f"its worker went silent {LOSSES_MAX} times"
    ended = (
        update(Run)
        .where(Run.id.in_(run_ids))
        .values(
            state=RunState.QUARANTINED,
            reason=reason,
            losses=Run.losses + 1,
            lease_until=None,
            finished_at=func.now(),
        )
        .returning(Run.agent_id)
    )
    agent_ids = [agent_id for agent_id in connection.execute(ended).scalars() if agent_id]
    stopped = connection.execute(
        update(Agent)
        .where(Agent.id.in_(agent_ids), Agent.state == AgentState.ACTIVE)
        .values(state=AgentState.QUARANTINED)
        .returning(Agent.handle)
    )
    handles = list(stopped.scalars())
    for handle in handles:
        note_change(
            connection,
            actor="paceline",
            action="agents.quarantine",
            subject=handle,
            before={"state": AgentState.ACTIVE},
            after={"state": AgentState.QUARANTINED},
            reason=reason,
        )
    return handles


def _expire(connection: Connection) -> int:
    expired = connection.execute(
        update(Run)
        .where(Run.state.in_(WAITING), Run.expires_at < func.now())
        .values(
            state=RunState.SKIPPED,
            reason=case((Run.cycle_at.is_(None), EXPIRED_ADHOC), else_=EXPIRED),
            finished_at=func.now(),
        )
    )
    return expired.rowcount


def _hear_again(connection: Connection, patience: timedelta) -> list[UUID]:
    unheard = (
        select(Run.id)
        .where(
            Run.state == RunState.QUEUED,
            or_(
                Run.published_at < func.now() - patience,
                Run.published_at > func.now() + patience,  # the clock went back
            ),
            or_(Run.expires_at.is_(None), Run.expires_at >= func.now()),
        )
        .order_by(Run.due_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    again = connection.execute(
        update(Run).where(Run.id.in_(unheard)).values(published_at=func.now()).returning(Run.id)
    )
    return list(again.scalars())
