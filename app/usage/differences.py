"""Where ledger and rollups differ: which day, which agent, which numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.usage.rollups import DAY, LOOK_BACK, midnight, rollups_of_day


@dataclass(frozen=True, slots=True)
class Difference:
    """Where sums differ: the day, the agent (None: the whole fleet), and requests, LLM tokens and
    micro-dollars of the ledger (a frozen day: as it was frozen) and of the rollup that is named.
    """

    day: date
    agent: str | None
    rollup: str
    ledger: tuple[int, int, int]
    found: tuple[int, int, int]

    def __str__(self) -> str:
        whose = f"agent {self.agent}" if self.agent else "the fleet"
        theirs = f"{_numbers(self.found)} in {self.rollup}"
        return f"{self.day}, {whose}: {_numbers(self.ledger)} in the ledger, {theirs}"


def _numbers(sums: tuple[int, int, int]) -> str:
    requests, tokens, micros = sums
    return f"{requests:,} requests, {tokens:,} tokens, ${micros / 1e6:,.6f}"


_ROLLUPS = {
    "ai_usage_fleet_hourly": """select (hour at time zone :zone)::date as day, null::uuid as agent_id,
      requests, tokens_used, cost_micros from paceline.ai_usage_fleet_hourly
      where hour >= :start and hour < :until""",
    "ai_usage_daily": """select day, agent_id, requests, tokens_used, cost_micros from paceline.ai_usage_daily
      where day >= :first and day < :last""",
    "ai_usage_agent_daily": """select day, agent_id, requests, tokens_used, cost_micros
      from paceline.ai_usage_agent_daily where day >= :first and day < :last""",
}
MOST = 50
"""So many differences are named; more of them say no more."""


def find_differences(connection: Connection, zone: ZoneInfo, days: int | None = None) -> list[Difference]:
    """Sums that differ, to the token and the micro-dollar. A frozen day is compared with what was found when
    it was frozen, because its calls may be gone; days since then with the ledger, by agent. `days`: only so
    many of the frozen ones, the newest. The newest two hours are left out: they are still being written.
    """
    first_frozen, last = connection.execute(text("select min(day), max(day) from paceline.usage_days")).one()
    found: list[Difference] = []
    if last is not None:
        if days is not None:
            first_frozen = max(first_frozen, last - timedelta(days=days - 1))
        found += _of_frozen(connection, zone, first_frozen, last)
    until = connection.execute(
        text("""
          select date_trunc('hour', max(hour) - cast(:back as interval), :zone)
          from paceline.ai_usage_fleet_hourly
        """),
        {"back": LOOK_BACK, "zone": zone.key},
    ).scalar_one()
    first = midnight(last + timedelta(days=1), zone) if last else datetime(2000, 1, 1, tzinfo=zone)
    if until is not None and until > first:
        found += _of_open(connection, zone, first, until)
    found += _of_today(connection, zone)
    return found[:MOST]


def _of_today(connection: Connection, zone: ZoneInfo) -> list[Difference]:
    """The day that is still being written: its rollups are made together, so they equal one another."""
    day = connection.execute(
        text(f"select max({DAY}) from paceline.ai_usage_fleet_hourly"), {"zone": zone.key}
    ).scalar_one()
    if day is None:
        return []
    end = midnight(day + timedelta(days=1), zone)
    hours, *days = (_three(sums) for sums in rollups_of_day(connection, day, midnight(day, zone), end))
    names = ("ai_usage_daily", "ai_usage_agent_daily")
    return [
        Difference(day, None, name, hours, sums)
        for name, sums in zip(names, days, strict=True)
        if sums != hours
    ]


def _of_frozen(connection: Connection, zone: ZoneInfo, first: date, last: date) -> list[Difference]:
    found = []
    given = _span(zone, midnight(first, zone), midnight(last + timedelta(days=1), zone))
    for name, rows in _ROLLUPS.items():
        query = text(f"""
          select f.day, f.requests, f.tokens_used, f.cost_micros, coalesce(r.n, 0), coalesce(r.t, 0),
            coalesce(r.c, 0)
          from paceline.usage_days f left join (
            select day, sum(requests) n, sum(tokens_used) t, sum(cost_micros) c from ({rows}) rows group by 1
          ) r using (day)
          where f.day >= :first and (f.requests, f.tokens_used, f.cost_micros)
            is distinct from (coalesce(r.n, 0), coalesce(r.t, 0), coalesce(r.c, 0))
          order by 1 limit {MOST}
        """)
        for day, *sums in connection.execute(query, given):
            numbers = [int(value) for value in sums]
            found.append(Difference(day, None, name, _three(numbers[:3]), _three(numbers[3:])))
    return found


def _of_open(connection: Connection, zone: ZoneInfo, start: datetime, until: datetime) -> list[Difference]:
    """Whole hours since the last frozen day: the fleet's hours to the last whole one, agents' days before the
    day that is still being written.
    """
    found = []
    ledger = """
      select (created_at at time zone :zone)::date as day, agent_id, count(*) as n,
        coalesce(sum(tokens_used), 0) as t, coalesce(sum(cost_micros), 0) as c
      from paceline.ai_request_log where created_at >= :start and created_at < :until group by 1, 2
    """
    whole_days = min(until, midnight(until.astimezone(zone).date(), zone))
    for name, rows in _ROLLUPS.items():
        by_agent = name != "ai_usage_fleet_hourly"
        end = whole_days if by_agent else until
        if end <= start:
            continue
        whose = "agent_id" if by_agent else "null::uuid as agent_id"
        query = text(f"""
          with l as (select day, {whose}, sum(n) n, sum(t) t, sum(c) c from ({ledger}) ledger group by 1, 2),
          r as (select day, agent_id, sum(requests) n, sum(tokens_used) t, sum(cost_micros) c
            from ({rows}) rows group by 1, 2)
          select coalesce(l.day, r.day), a.handle, coalesce(l.n, 0), coalesce(l.t, 0), coalesce(l.c, 0),
            coalesce(r.n, 0), coalesce(r.t, 0), coalesce(r.c, 0)
          from l full join r on r.day = l.day and r.agent_id is not distinct from l.agent_id
          left join paceline.agents a on a.id = coalesce(l.agent_id, r.agent_id)
          where (coalesce(l.n, 0), coalesce(l.t, 0), coalesce(l.c, 0))
            is distinct from (coalesce(r.n, 0), coalesce(r.t, 0), coalesce(r.c, 0))
          order by 1, 2 limit {MOST}
        """)
        for day, agent, *sums in connection.execute(query, _span(zone, start, end)):
            numbers = [int(value) for value in sums]
            found.append(Difference(day, agent, name, _three(numbers[:3]), _three(numbers[3:])))
    return found


def _span(zone: ZoneInfo, start: datetime, until: datetime) -> dict[str, object]:
    last = until.astimezone(zone)
    end = last.date() if last == midnight(last.date(), zone) else last.date() + timedelta(days=1)
    return {
        "zone": zone.key,
        "start": start,
        "until": until,
        "first": start.astimezone(zone).date(),
        "last": end,
    }


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    requests, tokens, micros = numbers
    return requests, tokens, micros
