"""The program's sums from single calls, and rounds that sum everything up."""

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from app.models import Call
from app.usage.calls import tokens_billable
from app.usage.rollups import LATE, RolledUp, roll_up


def tokens_by_agent(connection: Connection, since: datetime) -> dict[UUID, int]:
    """Billable tokens since then, by agent."""
    query = (
        select(Call.agent_id, func.sum(tokens_billable()).label("tokens"))
        .where(Call.created_at >= since)
        .group_by(Call.agent_id)
    )
    return {row.agent_id: int(row.tokens or 0) for row in connection.execute(query)}


def sum_up_all(connection: Connection, zone: ZoneInfo) -> RolledUp:
    """A round whose watermark is after the newest call, however new that is."""
    behind = connection.execute(select(func.now() - func.max(Call.created_at))).scalar_one()
    after_it = (behind or LATE) - timedelta(microseconds=1)
    return roll_up(connection, zone, late=min(LATE, after_it))
