"""Tokens that quotas count today, by agent: from sums where they are final, from the ledger where they are
not.
"""

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.usage.rollups import FINAL_UNTIL, TOKENS_UNKNOWN

_TOKENS = text(f"""
  with cut as (
    select coalesce((select {FINAL_UNTIL} from paceline.usage_state state where zone = :zone),
                    '-infinity') as at
  ), parts as (
    select agent_id, tokens_used + tokens_unknown as tokens from paceline.ai_usage_agent_daily
    where day = (cast(:since as timestamptz) at time zone :zone)::date and (select at from cut) > :since
    union all
    select agent_id, -(tokens_used + tokens_unknown) from paceline.ai_usage_hourly
    where hour >= (select at from cut) and (select at from cut) > :since
    union all
    select agent_id, coalesce(tokens_used, 0) + {TOKENS_UNKNOWN} from paceline.ai_request_log
    where created_at >= greatest((select at from cut), :since)
  )
  select agent_id, sum(tokens)::bigint from parts group by 1
""")


def tokens_by_agent(connection: Connection, midnight: datetime, zone: ZoneInfo) -> dict[UUID, int]:
    """Billable LLM tokens since the day's beginning. Hours that are not final are read from the
    ledger: the day's sum, without these hours, and the ledger of these hours.
    """
    given = {"since": midnight, "zone": zone.key}
    return dict(connection.execute(_TOKENS, given).all())
