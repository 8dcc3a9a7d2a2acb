"""Runs that somebody asked for by hand."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func
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
