"""Runs that somebody asked for by hand."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from app.agents.roster import find_agent
from app.models import Run, RunOrigin, RunState


def request_run(connection: Connection, run_id: UUID, who: str, now: datetime) -> bool:
    """Make an ad-hoc run for the agent with this handle or id; safe to repeat with the same run id.

    An unknown agent gets a run too, already failed, so that the mistake can be seen. Returns
    whether the agent is known.
    """
    agent_id = find_agent(connection, who)
    row: dict[str, object] = {
        "id": run_id,
        "agent_id": agent_id,
        "asked_for": who[:200].replace("\x00", ""),
        "due_at": now,
        "origin": RunOrigin.ADHOC,
    }
    if agent_id is None:
        row |= {"state": RunState.FAILED, "reason": "unknown agent", "finished_at": func.now()}
    connection.execute(insert(Run).values(row).on_conflict_do_nothing())
    return agent_id is not None


def waiting_runs(connection: Connection, agents: Iterable[UUID]) -> dict[UUID, UUID]:
    """The ad-hoc run of each of these agents that no worker has taken yet, where there is one."""
    query = select(Run.agent_id, Run.id).where(
        Run.agent_id.in_(list(agents)), Run.origin == RunOrigin.ADHOC, Run.state == RunState.QUEUED
    )
    return {agent_id: run_id for agent_id, run_id in connection.execute(query) if agent_id}
