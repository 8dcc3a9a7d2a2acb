"""What the program sums up, from single calls: what sums have to equal."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, func, select

from app.models import Call
from app.usage.calls import tokens_billable


def tokens_by_agent(connection: Connection, since: datetime) -> dict[UUID, int]:
    """Billable tokens since then, by agent."""
    query = (
        select(Call.agent_id, func.sum(tokens_billable()).label("tokens"))
        .where(Call.created_at >= since)
        .group_by(Call.agent_id)
    )
    return {row.agent_id: int(row.tokens or 0) for row in connection.execute(query)}
