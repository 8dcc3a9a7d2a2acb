"""What was used: today, this week, this month, and by whom. The one source for CLI, API and pages.

Whole hours and days come from the rollups, the open hour from the ledger, so a report is exact and reads a
bounded part of the raw log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.clock import day_window, month_window
from app.usage.rollups import OUTCOME


class Group(StrEnum):
    """What usage can be broken down by."""

    AGENT = "agent"
    COMMUNITY = "community"
    TYPE = "type"
    MODEL = "model"
    OUTCOME = "outcome"


_BY = {
    Group.AGENT: "a.handle",
    Group.COMMUNITY: "c.name",
    Group.TYPE: "u.request_type",
    Group.MODEL: "u.model",
    Group.OUTCOME: "u.outcome",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums. `cost_micros` is an estimate at list price; it leaves out `unpriced` requests."""

    requests: int = 0
    ok: int = 0
    rate_limited: int = 0
    credits_exhausted: int = 0
    other: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    cost_micros: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time with what was used in it, and in the one before up to the same point."""

    name: str
    start: datetime
    until: datetime
    usage: Usage
    before: Usage


_CUT = """with cut as (
  select date_trunc('hour', coalesce((select rolled_at from paceline.usage_state), '2000-01-01')
    - interval '10 minutes', :zone) as at)
"""
"""Where the rollup is final: older hours are read from it, newer ones from the ledger. A call that was
still open when its hour was rolled up is counted as it ended within ten minutes of the hour's end. Always
asked for as a scalar: joined to, it would let the planner read whole tables.
"""
_OPEN = f"""
  select created_at as at, agent_id, request_type, model, {OUTCOME} as outcome, 1 as requests,
    coalesce(tokens_input, 0) as tokens_input, coalesce(tokens_output, 0) as tokens_output,
    coalesce(cost_micros, 0) as cost_micros, (status = 'ok' and cost_micros is null)::int as unpriced
  from paceline.ai_request_log
  where created_at >= greatest(:start, (select at from cut)) and created_at < :until
"""
_FLEET = f"""
  select hour as at, request_type, model, outcome, requests, tokens_input, tokens_output, cost_micros,
    unpriced
  from paceline.ai_usage_fleet_hourly
  where hour >= :start and hour < least(:until, (select at from cut))
  union all
  select at, request_type, model, outcome, requests, tokens_input, tokens_output, cost_micros, unpriced
  from ({_OPEN}) newest
"""
_BY_OUTCOME = """requests, (outcome = 'ok')::int * requests as ok,
  (outcome = 'rate_limited')::int * requests as rate_limited,
  (outcome = 'credits_exhausted')::int * requests as credits_exhausted,
  tokens_input, tokens_output, cost_micros, unpriced"""
_AGENTS = f"""
  select agent_id, requests, ok, rate_limited, credits_exhausted, tokens_input, tokens_output,
    cost_micros, unpriced
  from paceline.ai_usage_agent_daily
  where day >= (cast(:start as timestamptz) at time zone :zone)::date
    and day < (select (at at time zone :zone)::date from cut)
  union all
  select agent_id, {_BY_OUTCOME} from paceline.ai_usage_hourly
  where hour >= greatest(:start, (select date_trunc('day', at, :zone) from cut))
    and hour < least(:until, (select at from cut))
  union all
  select agent_id, {_BY_OUTCOME} from ({_OPEN}) newest
"""
"""Whole days from their own rollup, the hours of the day that the cut is in from theirs, the newest from the
ledger: cut at one moment, so that nothing is counted twice, also when midnight came since the last round.
"""
_SUMS = """
  coalesce(sum(u.requests), 0), coalesce(sum(u.requests) filter (where u.outcome = 'ok'), 0),
  coalesce(sum(u.requests) filter (where u.outcome = 'rate_limited'), 0),
  coalesce(sum(u.requests) filter (where u.outcome = 'credits_exhausted'), 0),
  coalesce(sum(u.requests) filter (where u.outcome not in
    ('ok', 'rate_limited', 'credits_exhausted')), 0),
  coalesce(sum(u.tokens_input), 0), coalesce(sum(u.tokens_output), 0),
  coalesce(sum(u.cost_micros), 0), coalesce(sum(u.unpriced), 0)
"""
_AGENT_SUMS = """
  sum(u.requests), sum(u.ok), sum(u.rate_limited), sum(u.credits_exhausted),
  sum(u.requests - u.ok - u.rate_limited - u.credits_exhausted), sum(u.tokens_input),
  sum(u.tokens_output), sum(u.cost_micros), sum(u.unpriced)
"""


def usage_in(
    connection: Connection, windows: Sequence[tuple[datetime, datetime]], zone: ZoneInfo
) -> list[Usage]:
    """Sums over `start <= at < until` for each of the windows, in one query; starts must be whole hours of
    the business time zone.
    """
    values = ", ".join(
        f"({n}, cast(:from{n} as timestamptz), cast(:to{n} as timestamptz))"
        for n in range(len(windows))
    )
    query = text(f"""
      {_CUT} select w.n, {_SUMS} from (values {values}) as w(n, start, until)
      join ({_FLEET}) u on u.at >= w.start and u.at < w.until group by 1
    """)
    given: dict[str, object] = {"zone": zone.key}
    given |= {"start": min(w[0] for w in windows), "until": max(w[1] for w in windows)}
    for n, (start, until) in enumerate(windows):
        given |= {f"from{n}": start, f"to{n}": until}
    found = {
        row[0]: Usage(*(int(value) for value in row[1:]))
        for row in connection.execute(query, given)
    }
    return [found.get(n, Usage()) for n in range(len(windows))]


def usage_between(
    connection: Connection, start: datetime, until: datetime, zone: ZoneInfo
) -> Usage:
    """Sums over one window."""
    return usage_in(connection, [(start, until)], zone)[0]


def breakdown(
    connection: Connection,
    start: datetime,
    until: datetime,
    by: Group,
    zone: ZoneInfo,
    limit: int = 50,
) -> list[tuple[str, Usage]]:
    """Usage by one thing since a midnight, the most expensive first."""
    if by in (Group.AGENT, Group.COMMUNITY):
        sums = f"select agent_id, {_AGENT_SUMS} from ({_AGENTS}) u group by 1"
        columns = "n, ok, rl, ce, other, ti, tout, cost, unpriced"
        query = f"""{_CUT}, by_agent (agent_id, {columns}) as ({sums})
          select {_BY[by]}, sum(n), sum(ok), sum(rl), sum(ce), sum(other), sum(ti), sum(tout), sum(cost),
            sum(unpriced)
          from by_agent join paceline.agents a on a.id = agent_id
          join paceline.communities c on c.id = a.community_id
          group by 1 order by 9 desc, 2 desc, 1 limit :limit"""
    else:
        query = f"""{_CUT} select {_BY[by]}, {_SUMS} from ({_FLEET}) u
          group by 1 order by 9 desc, 2 desc, 1 limit :limit"""
    given: dict[str, object] = {"start": start, "until": until, "limit": limit, "zone": zone.key}
    rows = connection.execute(text(query), given)
    return [(str(row[0]), Usage(*(int(value) for value in row[1:]))) for row in rows]


def cost_by_community(
    connection: Connection, start: datetime, until: datetime, zone: ZoneInfo
) -> dict[UUID, int]:
    """Estimated cost in micro-dollars since a midnight, by community; what has no price counts nothing."""
    query = text(f"""
      {_CUT} select a.community_id, sum(u.cost_micros) from ({_AGENTS}) u
      join paceline.agents a on a.id = u.agent_id group by 1
    """)
    given: dict[str, object] = {"start": start, "until": until, "zone": zone.key}
    return {row[0]: int(row[1]) for row in connection.execute(query, given)}


NAMES = ("today", "this week", "this month")


def periods(connection: Connection, now: datetime, zone: ZoneInfo) -> list[Period]:
    """Today, this week (from Monday) and this month, each beside the one before, in one query."""
    wanted = []
    for name in NAMES:
        start, before = _starts(name, now, zone)
        wanted += [(start, now), (before, min(before + (now - start), start))]
    found = usage_in(connection, wanted, zone)
    return [
        Period(name, *wanted[2 * n], found[2 * n], found[2 * n + 1]) for n, name in enumerate(NAMES)
    ]


def period_start(name: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Where `today`, `this week` or `this month` began."""
    return _starts(name, now, zone)[0]


def _starts(name: str, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start of the period that holds `now`, and of the one before, in local midnights."""
    if name == "this month":
        start, _ = month_window(now, zone)
        return start, month_window(start - timedelta(days=1), zone)[0]
    if name == "this week":
        weekday = now.astimezone(zone).weekday()
        start = _midnight_days_ago(now, zone, weekday)
        return start, _midnight_days_ago(now, zone, weekday + 7)
    start, _ = day_window(now, zone)
    return start, _midnight_days_ago(now, zone, 1)


def _midnight_days_ago(now: datetime, zone: ZoneInfo, days: int) -> datetime:
    noon = now.astimezone(zone).replace(hour=12, minute=0, second=0, microsecond=0)
    return day_window(noon - timedelta(days=days), zone)[0]  # noon: no clock change reaches it


def hourly(
    connection: Connection, now: datetime, zone: ZoneInfo, hours: int
) -> list[tuple[datetime, int]]:
    """Requests of each of the last hours, the running one included; 0 where there were none."""
    query = text(f"""
      {_CUT} select hours.at, coalesce(sum(u.requests), 0)
      from generate_series(date_trunc('hour', cast(:until as timestamptz), :zone)
        - make_interval(hours => :hours - 1), :until, interval '1 hour') as hours(at)
      left join ({_FLEET}) u on u.at >= hours.at and u.at < hours.at + interval '1 hour'
      group by 1 order by 1
    """)
    start = now - timedelta(hours=hours)
    given = {"start": start, "until": now, "zone": zone.key, "hours": hours}
    return [(row[0], int(row[1])) for row in connection.execute(query, given)]
