"""Runs that somebody asks for by hand: stored first, then published."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from app.agents.roster import find_agent, find_known
from app.models import Run, RunOrigin, RunState

FOLLOWS = ("chain", "chord", "link", "link_error")
"""Tasks that Celery begins when the run has ended."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run as it is asked for. `who`: handle or id of the agent. It begins at `due_at`, or now; it is
    skipped when it has not begun at `expires_at`. `options` are what its message carries beside the agent.
    """

    id: UUID
    who: str
    due_at: datetime | None = None
    expires_at: datetime | None = None
    options: dict[str, Any] | None = None

    def as_row(self, now: datetime) -> dict[str, Any]:
        """The values of its row."""
        options = self.options or {}
        row: dict[str, Any] = {
            "id": self.id,
            "asked_for": self.who[:200].replace("\x00", ""),
            "due_at": self.due_at or now,
            "expires_at": self.expires_at,
            "origin": RunOrigin.ADHOC,
            "options": self.options,
            "group_id": options.get("group_id"),
            "is_continued": False if any(options.get(name) for name in FOLLOWS) else None,
        }
        if self.due_at is not None and self.due_at > now:
            row |= {"state": RunState.SNOOZED, "wake_at": self.due_at}
        return row


def store_run(connection: Connection, wanted: Wanted, now: datetime) -> bool:
    """Make the run, or find it made: safe to repeat with the same id. Returns whether it may begin now.
    Raises NotFound when there is no such agent.
    """
    row = wanted.as_row(now) | {"agent_id": find_known(connection, wanted.who)}
    connection.execute(insert(Run).values(row).on_conflict_do_nothing())
    query = select(Run.state).where(Run.id == wanted.id)
    return connection.execute(query).scalar_one() == RunState.QUEUED


def request_run(connection: Connection, run_id: UUID, who: str, now: datetime) -> bool:
    """Make a run that a message of another program asks for; safe to repeat with the same run id.

    An unknown agent gets a run too, already failed, so that the mistake can be seen. Returns
    whether the agent is known.
    """
    agent_id = find_agent(connection, who)
    if agent_id is None:
        fail_unbegun(connection, Wanted(run_id, who), None, "unknown agent", now)
        return False
    row = Wanted(run_id, who).as_row(now) | {"agent_id": agent_id}
    connection.execute(insert(Run).values(row).on_conflict_do_nothing())
    return True


def fail_unbegun(
    connection: Connection, wanted: Wanted, agent_id: UUID | None, reason: str, now: datetime
) -> None:
    """Note a run that will never begin, unless it is there already."""
    ended = {"state": RunState.FAILED, "reason": reason[:1_000], "finished_at": func.now()}
    row = wanted.as_row(now) | {"agent_id": agent_id, "wake_at": None} | ended
    connection.execute(insert(Run).values(row).on_conflict_do_nothing())


def waiting_runs(connection: Connection, agents: Iterable[UUID]) -> dict[UUID, UUID]:
    """The ad-hoc run of each of these agents that no worker has taken yet, where there is one."""
    query = select(Run.agent_id, Run.id).where(
        Run.agent_id.in_(list(agents)), Run.origin == RunOrigin.ADHOC, Run.state == RunState.QUEUED
    )
    return {agent_id: run_id for agent_id, run_id in connection.execute(query) if agent_id}
