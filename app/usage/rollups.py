"""Summing the ledger up by hour and day. Recomputed, never added to, so doing it twice is harmless.

A round recomputes everything from the hour before the last one that was rolled up: an outage is caught
up with, and rows that were still open then are counted as they ended.
"""

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

LOOK_BACK = timedelta(hours=2)
"""A call takes minutes at most, and is given up after a few more: its row is final by then."""

OUTCOME = """case when status = 'ok' then 'ok' when status = 'unknown' then 'unknown'
  when status = 'in_flight' then 'in_flight' when http_status = 429 then 'rate_limited'
  when http_status = 402 then 'credits_exhausted' else 'error' end"""
"""What came of a call, in the words of reports."""

SUMS = """count(*), coalesce(sum(tokens_input), 0), coalesce(sum(tokens_output), 0),
  coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0),
  count(*) filter (where status = 'ok' and cost_micros is null)"""

_START = text("""
  select coalesce(
    (select max(hour) - cast(:back as interval) from paceline.ai_usage_hourly),
    (select date_trunc('hour', min(created_at), :zone) from paceline.ai_request_log))
""")
_COLUMNS = """agent_id, request_type, model, outcome, requests, tokens_input, tokens_output,
  tokens_used, cost_micros, unpriced"""
_HOURLY = text(f"""
  insert into paceline.ai_usage_hourly (hour, {_COLUMNS})
  select date_trunc('hour', created_at, :zone), agent_id, request_type, model, {OUTCOME}, {SUMS}
  from paceline.ai_request_log where created_at >= :start group by 1, 2, 3, 4, 5
""")
_DAILY = text(f"""
  insert into paceline.ai_usage_daily (day, {_COLUMNS})
  select (hour at time zone :zone)::date, agent_id, request_type, model, outcome, sum(requests),
    sum(tokens_input), sum(tokens_output), sum(tokens_used), sum(cost_micros), sum(unpriced)
  from paceline.ai_usage_hourly
  where (hour at time zone :zone)::date >= (cast(:start as timestamptz) at time zone :zone)::date
    and hour >= cast(:start as timestamptz) - interval '26 hours'
  group by 1, 2, 3, 4, 5
""")


@dataclass(frozen=True, slots=True)
class RolledUp:
    """How many groups were written."""

    hourly: int
    daily: int

    def __str__(self) -> str:
        return f"{self.hourly} hourly and {self.daily} daily groups"


def roll_up(connection: Connection, zone: ZoneInfo) -> RolledUp:
    """One round; rounds at the same time take turns."""
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.usage.roll_up'))"))
    given = {"zone": zone.key, "back": LOOK_BACK}
    start = connection.execute(_START, given).scalar_one()
    if start is None:
        return RolledUp(0, 0)
    given = {"zone": zone.key, "start": start}
    connection.execute(
        text("delete from paceline.ai_usage_hourly where hour >= :start"), {"start": start}
    )
    connection.execute(
        text(
            "delete from paceline.ai_usage_daily where day >= "
            "(cast(:start as timestamptz) at time zone :zone)::date"
        ),
        given,
    )
    hourly = connection.execute(_HOURLY, given).rowcount
    return RolledUp(hourly, connection.execute(_DAILY, given).rowcount)


def differences(connection: Connection) -> int:
    """Hours and days whose rollup differs from the ledger, to the token and the micro-dollar.

    The newest two hours are left out: they are still being written.
    """
    query = text("""
      with cut as (select max(hour) - interval '2 hours' as until from paceline.ai_usage_hourly),
      ledger as (
        select count(*) r, coalesce(sum(tokens_used), 0) t, coalesce(sum(cost_micros), 0) c
        from paceline.ai_request_log, cut where created_at < cut.until),
      hourly as (
        select coalesce(sum(requests), 0) r, coalesce(sum(tokens_used), 0) t,
          coalesce(sum(cost_micros), 0) c
        from paceline.ai_usage_hourly, cut where hour < cut.until),
      all_hours as (
        select coalesce(sum(requests), 0) r, coalesce(sum(tokens_used), 0) t,
          coalesce(sum(cost_micros), 0) c from paceline.ai_usage_hourly),
      days as (
        select coalesce(sum(requests), 0) r, coalesce(sum(tokens_used), 0) t,
          coalesce(sum(cost_micros), 0) c from paceline.ai_usage_daily)
      select (select count(*) from ledger, hourly
              where (ledger.r, ledger.t, ledger.c) <> (hourly.r, hourly.t, hourly.c))
           + (select count(*) from all_hours, days
              where (all_hours.r, all_hours.t, all_hours.c) <> (days.r, days.t, days.c))
    """)
    return int(connection.execute(query).scalar_one())
