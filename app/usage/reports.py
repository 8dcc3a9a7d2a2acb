"""Use over any time, and by whom. The one source for CLI, API and pages.

Whole hours and days come from the rollups, the open hour from the ledger, so a report is exact and reads a
bounded part of the raw log.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, text
from sqlalchemy.engine.default import DefaultDialect

from app.clock import day_window
from app.usage.rollups import COST_UNKNOWN, OUTCOME, midnight, read_watermark

_NAMED = DefaultDialect(paramstyle="named")
"""For queries that become a part of texts: `:name`."""


class Group(StrEnum):
    """Groups of a breakdown of usage."""

    AGENT = "agent"
    COMMUNITY = "community"
    TYPE = "type"
    MODEL = "model"
    OUTCOME = "outcome"


_BY = {Group.TYPE: "u.request_type", Group.MODEL: "u.model", Group.OUTCOME: "u.outcome"}


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums. `cost_micros` is what the gateway reported or an estimate at list price; it leaves out
    `cost_unknown_micros`, what was reserved for calls whose cost nobody knows, and `unpriced` requests.
    """

    requests: int = 0
    ok: int = 0
    rate_limited: int = 0
    credits_exhausted: int = 0
    other: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    cost_micros: int = 0
    unpriced: int = 0
    cost_unknown_micros: int = 0

    @property
    def tokens(self) -> int:
        """LLM tokens, in and out."""
        return self.tokens_input + self.tokens_output

    @property
    def billable_micros(self) -> int:
        """Cost that counts against budgets: the cost, and what is reserved where it is unknown."""
        return self.cost_micros + self.cost_unknown_micros

    @property
    def errors(self) -> int:
        """Requests that were not answered: 429, 402, and the others."""
        return self.requests - self.ok


def _usage(sums: Sequence[Any]) -> Usage:
    return Usage(*map(int, sums))


@dataclass(frozen=True, slots=True)
class Measured:
    """Use in a window, and the hour of its first request; None: there was none."""

    usage: Usage
    first: datetime | None


class Metric(StrEnum):
    """Metric of usage. The names are fields and properties of `Usage`."""

    COST = "cost_micros"
    REQUESTS = "requests"
    TOKENS = "tokens"
    ERRORS = "errors"


_RANK = {  # columns of a breakdown
    Metric.COST: "cost desc, n desc",
    Metric.REQUESTS: "n desc",
    Metric.TOKENS: "ti + tout desc, n desc",
    Metric.ERRORS: "n - ok desc, n desc",
}


OPEN = f"""
  select created_at as at, agent_id, request_type, model, {OUTCOME} as outcome, 1 as requests,
    coalesce(tokens_input, 0) as tokens_input, coalesce(tokens_output, 0) as tokens_output,
    coalesce(cost_micros, 0) as cost_micros, {COST_UNKNOWN} as cost_unknown_micros,
    (status = 'ok' and cost_micros is null)::int as unpriced
  from paceline.ai_request_log where created_at >= :open_from and created_at < :until
"""
_FLEET = f"""
  select hour as at, request_type, model, outcome, requests, tokens_input, tokens_output, cost_micros,
    cost_unknown_micros, unpriced
  from paceline.ai_usage_fleet_hourly where hour >= :start and hour < :rolled_until
  union all
  select at, request_type, model, outcome, requests, tokens_input, tokens_output, cost_micros,
    cost_unknown_micros, unpriced from ({OPEN}) newest
"""
_BY_OUTCOME = """requests, (outcome = 'ok')::int * requests as ok,
  (outcome = 'rate_limited')::int * requests as rate_limited,
  (outcome = 'credits_exhausted')::int * requests as credits_exhausted,
  tokens_input, tokens_output, cost_micros, cost_unknown_micros, unpriced"""
_AGENTS = f"""
  select agent_id, requests, ok, rate_limited, credits_exhausted, tokens_input, tokens_output,
    cost_micros, cost_unknown_micros, unpriced
  from paceline.ai_usage_agent_daily where day >= :first_day and day < :whole_until
  union all
  select agent_id, {_BY_OUTCOME} from paceline.ai_usage_hourly
  where hour >= :hours_from and hour < :rolled_until
  union all
  select agent_id, {_BY_OUTCOME} from ({OPEN}) newest
"""
"""Days from their own sums, also the watermark's day, whose sums end there; the newest calls from the ledger.
The hours are those of a last day that is not wholly asked for.
"""
_PLAIN = "outcome, requests, tokens_input, tokens_output, cost_micros, cost_unknown_micros, unpriced"
EACH = (
    "u.requests",
    "u.requests * (u.outcome = 'ok')::int",
    "u.requests * (u.outcome = 'rate_limited')::int",
    "u.requests * (u.outcome = 'credits_exhausted')::int",
    "u.requests * (u.outcome not in ('ok', 'rate_limited', 'credits_exhausted'))::int",
    "u.tokens_input",
    "u.tokens_output",
    "u.cost_micros",
    "u.unpriced",
    "u.cost_unknown_micros",
)
"""The fields of Usage, of one row of rollups."""
_SUMS = ", ".join(f"coalesce(sum({each}), 0)" for each in EACH)
_AGENT_SUMS = """
  sum(u.requests), sum(u.ok), sum(u.rate_limited), sum(u.credits_exhausted),
  sum(u.requests - u.ok - u.rate_limited - u.credits_exhausted), sum(u.tokens_input),
  sum(u.tokens_output), sum(u.cost_micros), sum(u.unpriced), sum(u.cost_unknown_micros)
"""


def _given(
    connection: Connection, zone: ZoneInfo, start: datetime, until: datetime, watermark: datetime | None
) -> dict[str, object]:
    """Return the values for the fragments above."""
    watermark = watermark or read_watermark(connection)
    reaches_it = until >= watermark
    last = (watermark if reaches_it else until).astimezone(zone)
    last_day = last.date() + timedelta(days=reaches_it)
    return {
        "zone": zone.key,
        "start": start,
        "until": until,
        "open_from": max(start, watermark),
        "rolled_until": min(until, watermark),
        "first_day": start.astimezone(zone).date(),
        "whole_until": last_day,
        "hours_from": max(start, midnight(last_day, zone)),
    }


def measure(
    connection: Connection,
    windows: Sequence[tuple[datetime, datetime]],
    zone: ZoneInfo,
    watermark: datetime | None = None,
) -> list[Measured]:
    """Sums over `start <= at < until` for each of the windows, in one query; starts must be whole hours of
    the business time zone.
    """
    values = ", ".join(
        f"({n}, cast(:from{n} as timestamptz), cast(:to{n} as timestamptz))" for n in range(len(windows))
    )
    query = text(f"""
      select w.n, min(u.at), {_SUMS} from (values {values}) as w(n, start, until)
      join ({_FLEET}) u on u.at >= w.start and u.at < w.until group by 1
    """)
    first, last = min(start for start, _ in windows), max(until for _, until in windows)
    given = _given(connection, zone, first, last, watermark)
    for n, (start, until) in enumerate(windows):
        given |= {f"from{n}": start, f"to{n}": until}
    found = {row[0]: Measured(_usage(row[2:]), row[1]) for row in connection.execute(query, given)}
    return [found.get(n, Measured(Usage(), None)) for n in range(len(windows))]


def usage_between(
    connection: Connection,
    start: datetime,
    until: datetime,
    zone: ZoneInfo,
    watermark: datetime | None = None,
) -> Usage:
    """Sums over one window."""
    return measure(connection, [(start, until)], zone, watermark)[0].usage


def breakdown(
    connection: Connection,
    start: datetime,
    until: datetime,
    by: Group,
    zone: ZoneInfo,
    limit: int = 50,
    metric: Metric = Metric.COST,
    watermark: datetime | None = None,
    among: Select[UUID] | None = None,
) -> list[tuple[str, Usage]]:
    """Usage by one thing since a midnight, the most expensive (or most of another metric) first. `among`: by
    agent, of only those that this query of ids finds.
    """
    columns = "n, ok, rl, ce, other, ti, tout, cost, unpriced, unknown"
    rank = _RANK[metric]
    only, chosen = "", {}
    if among is not None:
        compiled = among.compile(dialect=_NAMED)
        only, chosen = f"where agent_id in ({compiled})", dict(compiled.params)
    each = f"select agent_id, {_AGENT_SUMS} from ({_AGENTS}) u {only} group by 1"
    if by is Group.AGENT:  # names only of those that are shown
        query = f"""
          with found as (select * from ({each}) each (id, {columns}) order by {rank}, id limit :limit)
          select a.handle as name, {columns} from found join paceline.agents a using (id)
          order by {rank}, name"""
    elif by is Group.COMMUNITY:
        sums = ", ".join(f"sum({column})" for column in columns.split(", "))
        query = f"""
          with places (id, {columns}) as (
            select a.community_id, {sums} from ({each}) each (id, {columns})
            join paceline.agents a using (id) group by 1)
          select c.name, {columns} from places join paceline.communities c using (id)
          order by {rank}, name limit :limit"""
    else:
        query = f"""
          select * from (select {_BY[by]}, {_SUMS} from ({_FLEET}) u group by 1) found (name, {columns})
          order by {rank}, name limit :limit"""
    given = _given(connection, zone, start, until, watermark) | {"limit": limit} | chosen
    rows = connection.execute(text(query), given)
    return [(str(row[0]), _usage(row[1:])) for row in rows]


def calls_by_kind(
    connection: Connection, start: datetime, until: datetime, zone: ZoneInfo, watermark: datetime
) -> list[tuple[tuple[str, str, str], Usage]]:
    """Usage by request type, model and outcome together."""
    query = text(f"""
      select u.request_type, u.model, u.outcome, {_SUMS} from ({_FLEET}) u group by 1, 2, 3
    """)
    rows = connection.execute(query, _given(connection, zone, start, until, watermark))
    return [((row[0], row[1], row[2]), _usage(row[3:])) for row in rows]


def spent_by_community(
    connection: Connection,
    starts: Sequence[datetime],
    until: datetime,
    zone: ZoneInfo,
    watermark: datetime | None = None,
) -> list[dict[UUID, int]]:
    """Micro-dollars that count against budgets since each of some midnights, by community: what calls cost
    and, where nobody knows, what was reserved for them.
    """
    watermark = watermark or read_watermark(connection)
    parts: list[str] = []
    given: dict[str, object] = {}
    for n, start in enumerate(starts):
        part = f"""
          select {n} as n, a.community_id, sum(u.cost) from (
            select agent_id, sum(cost_micros + cost_unknown_micros) as cost from ({_AGENTS}) each
            group by 1) u
          join paceline.agents a on a.id = u.agent_id group by 1, 2"""
        # The same names of values stand in each part, so each gets names of its own.
        parts.append(re.sub(r"(?<!:):([a-z]\w*)", rf":\1_{n}", part))
        values = _given(connection, zone, start, until, watermark)
        given |= {f"{name}_{n}": value for name, value in values.items()}
    found: list[dict[UUID, int]] = [{} for _ in starts]
    for n, community, cost in connection.execute(text(" union all ".join(parts)), given):
        found[n][community] = int(cost)
    return found


class Step(StrEnum):
    """How long a bar of a chart lasts."""

    HOUR = "hour"
    DAY = "day"


def series(
    connection: Connection,
    start: datetime,
    until: datetime,
    step: Step,
    zone: ZoneInfo,
    watermark: datetime | None = None,
) -> list[tuple[datetime, Usage | None]]:
    """Usage of each hour or day from `start` on, the running one included; None where nothing was recorded
    and nothing can be known: before the first call ever.
    """
    query = text(f"""
      select at at time zone :zone, (select min(hour) from paceline.ai_usage_fleet_hourly), {_SUMS}
      from generate_series(date_trunc('{step}', cast(:start as timestamptz) at time zone :zone),
        cast(:until as timestamptz) at time zone :zone, interval '1 {step}') as steps(at)
      left join (select date_trunc('{step}', at at time zone :zone) as at, {_PLAIN} from ({_FLEET}) f) u
        using (at)
      group by 1, 2 order by 1
    """)
    local = start.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    whole = local if step is Step.HOUR else day_window(start, zone)[0]  # the first bar, too
    given = _given(connection, zone, whole, until, watermark)
    length = timedelta(hours=1) if step is Step.HOUR else timedelta(days=1)
    found: list[tuple[datetime, Usage | None]] = []
    for at, first, *sums in connection.execute(query, given):
        usage = _usage(sums)
        is_known = usage.requests or (first is not None and at + length > first)
        found.append((at, usage if is_known else None))
    return found


def usage_of_agents(
    connection: Connection,
    agent_ids: Sequence[UUID],
    now: datetime,
    zone: ZoneInfo,
    watermark: datetime | None = None,
) -> dict[UUID, Usage]:
    """Return what each of a few agents used today; those that called nothing are left out."""
    query = text(f"""
      select u.agent_id, {_AGENT_SUMS} from ({_AGENTS}) u where u.agent_id = any(:agent_ids) group by 1
    """)
    start = day_window(now, zone)[0]
    given = _given(connection, zone, start, now, watermark) | {"agent_ids": list(agent_ids)}
    rows = connection.execute(query, given)
    return {row[0]: _usage(row[1:]) for row in rows}


def days_of_agent(
    connection: Connection, agent_id: UUID, days: int, now: datetime, zone: ZoneInfo
) -> list[tuple[date, int]]:
    """Cost in micro-dollars of each of the last days, today as far as it is rolled up; days without a call
    cost 0.
    """
    query = text("""
      select days.day::date, coalesce(sum(u.cost_micros), 0)
      from generate_series(cast(:today as date) - :days + 1, cast(:today as date), interval '1 day') days(day)
      left join paceline.ai_usage_daily u on u.day = days.day and u.agent_id = :agent_id
      group by 1 order by 1
    """)
    given = {"agent_id": agent_id, "days": days, "today": now.astimezone(zone).date()}
    return [(row[0], int(row[1])) for row in connection.execute(query, given)]
