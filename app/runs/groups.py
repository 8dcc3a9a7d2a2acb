"""Runs that belong together, by Celery's groups, chords and chains: kept in `paceline.runs`, so that a Redis
that loses its data loses none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from app.models import Agent, Run, RunState
from app.runs.states import TERMINAL

OWN_TIME = timedelta(seconds=10)
"""The worker that ended a run begins what follows; after so long another one does."""
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a group."""

    id: UUID
    agent: str
    state: str
    reason: str | None
    cancelled_by: str | None

    def __str__(self) -> str:
        return f"{self.agent}: {self.state}" + (f" ({self.reason})" if self.reason else "")

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    @property
    def is_well(self) -> bool:
        """Whether it came to an end that is no failure; one that was skipped by a limit did."""
        return self.state in (RunState.COMPLETED, RunState.SKIPPED) and self.cancelled_by is None


def members(connection: Connection, group_id: str) -> list[Member]:
    """The runs of a group that are stored, in the order of their ids."""
    query = _MEMBERS.where(Run.group_id == group_id).order_by(Run.id)
    return [Member(*row) for row in connection.execute(query)]


def find_member(connection: Connection, run_id: UUID) -> Member | None:
    """One run; None when there is no such one."""
    row = connection.execute(_MEMBERS.where(Run.id == run_id)).one_or_none()
    return None if row is None else Member(*row)


_MEMBERS = select(
    Run.id, func.coalesce(Agent.handle, Run.asked_for, "?"), Run.state, Run.reason, Run.cancelled_by
).join(Agent, Agent.id == Run.agent_id, isouter=True)


def to_continue(connection: Connection) -> list[UUID]:
    """Runs that have ended while nobody began what follows them: cancelled, expired, or their worker died
    just then. To be published once more: the worker that gets the message finds the end, and goes on.
    """
    due = (
        select(Run.id)
        .where(
            ~Run.is_continued,  # as the index says it: `is false` would read the whole table
            Run.finished_at < func.now() - OWN_TIME,
            Run.published_at < func.now() - OWN_TIME,
        )
        .order_by(Run.finished_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    told = update(Run).where(Run.id.in_(due)).values(published_at=func.now()).returning(Run.id)
    return list(connection.execute(told).scalars())


def note_continued(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Note that what follows these runs was begun, or never will be."""
    connection.execute(update(Run).where(Run.id.in_(run_ids), ~Run.is_continued).values(is_continued=True))
