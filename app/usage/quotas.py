"""Tokens that quotas count today, by agent: the day's sums, and the calls after the watermark."""

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.usage.rollups import TOKENS_UNKNOWN, read_watermark

_TOKENS = text(f"""
  select agent_id, sum(tokens)::bigint from (
    select agent_id, tokens_used + tokens_unknown as tokens from paceline.ai_usage_agent_daily
    where day = :day
    union all
    select agent_id, coalesce(tokens_used, 0) + {TOKENS_UNKNOWN} from paceline.ai_request_log
    where created_at >= :since
  ) parts group by 1
""")


def tokens_by_agent(connection: Connection, midnight: datetime, zone: ZoneInfo) -> dict[UUID, int]:
    """Billable LLM tokens since the day's beginning."""
    since = max(midnight, read_watermark(connection))
    given = {"day": midnight.astimezone(zone).date(), "since": since}
    return dict(connection.execute(_TOKENS, given).all())
