"""Rows that are valid by default."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import ARRAY, Connection, Text, any_, insert, literal, select

from app.agents import roster
from app.agents.roster_file import Entry
from app.models import Agent, Run, RunOrigin

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def make_agents(connection: Connection, count: int, community: str = "Tests") -> list[UUID]:
    """Agents a0, a1, ... by their ids, in that order."""
    entries = [
        Entry(number, f"a{number}", f"Agent {number}", community, "You like tests.")
        for number in range(count)
    ]
    roster.add_agents(connection, entries)
    handles = literal([entry.handle for entry in entries], ARRAY(Text))
    found = connection.execute(select(Agent.handle, Agent.id).where(Agent.handle == any_(handles)))
    ids = {row.handle: row.id for row in found}
    return [ids[entry.handle] for entry in entries]


def make_run(connection: Connection, agent_id: UUID, **values: object) -> UUID:
    """A queued ad-hoc run."""
    row = {"id": uuid4(), "agent_id": agent_id, "due_at": NOON, "origin": RunOrigin.ADHOC} | values
    connection.execute(insert(Run).values(row))
    return row["id"]  # type: ignore[return-value]
