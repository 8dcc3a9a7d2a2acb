"""Tokens that quotas count today, by agent: from sums where they are final, from the ledger where they are
not.
"""

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.usage.rollups import TOKENS_UNKNOWN, WATERMARK

_TOKENS = text(f"""
  with watermark as (
    select coalesce((select {WATERMARK} from paceline.usage_state state where zone = :zone),
                    '-infinity') as at
  ), parts as (
    select agent_id, tokens_used + tokens_unknown as tokens from paceline.ai_usage_agent_daily
    where day = (cast(:since as timestamptz) at time zone :zone)::date and (select at from watermark) > :since
    union all
    select agent_id, -(tokens_used + tokens_unknown) from paceline.ai_usage_hourly
    where hour >= (select at from watermark) and (select at from watermark) > :since
    union all
    select agent_id, coalesce(tokens_used, 0) + {TOKENS_UNKNOWN} from paceline.ai_request_log
    where created_at >= greatest((select at from watermark), :since)
  )
  select agent_id, sum(tokens)::bigint from parts group by 1
""")


def tokens_by_agent(connection: Connection, midnight: datetime, zone: ZoneInfo) -> dict[UUID, int]:
    """Billable LLM tokens since the day's beginning. Calls after the watermark are read from the ledger."""
    given = {"since": midnight, "zone": zone.key}
    return dict(connection.execute(_TOKENS, given).all())
