"""Summing the ledger up by hour and day. Recomputed, never added to, so doing it twice is harmless.

A round recomputes everything from the hour before the last one that was rolled up: an outage is caught
up with, and rows that were still open then are counted as they ended. A day that is over is compared with
the ledger once more, mended if it differs, and frozen: from then on nothing of it is written, and its
part of the ledger may be dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from app.clock import utcnow
from app.errors import ConfigError
from app.kinds import BILLABLE
from app.usage.latency import BUCKET

LOOK_BACK = timedelta(hours=2)
"""A call takes minutes at most, and is given up after a few more: its row is final by then."""
HOURS_KEPT = timedelta(days=4)
"""Hours by agent are what days are made from; then they have done their work."""
SETTLED = timedelta(hours=6)
"""A day is frozen so long after its end."""

OUTCOME = "case when status = 'error' then coalesce(error_code, 'error') else status end"
"""What came of a call, in the words of app.kinds; `ok`, `unknown` and `in_flight` are states of the row."""
COST_UNKNOWN = f"""case when cost_micros is null and (status <> 'error' or error_code in
  ({", ".join(f"'{code}'" for code in BILLABLE)})) then coalesce(cost_reserved, 0) else 0 end"""
"""Micro-dollars reserved for a call whose cost nobody knows: the rule of app.usage.calls.is_unsure."""

_NAMES = (
    "requests, tokens_input, tokens_output, tokens_used, cost_micros, cost_unknown_micros, unpriced"
)
_FROM_LEDGER = f"""count(*), coalesce(sum(tokens_input), 0), coalesce(sum(tokens_output), 0),
  coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0), coalesce(sum({COST_UNKNOWN}), 0),
  count(*) filter (where status = 'ok' and cost_micros is null)"""
_FROM_HOURS = ", ".join(f"sum({name})" for name in _NAMES.split(", "))
_DAY = "(hour at time zone :zone)::date"

_ROUND = (
    "delete from paceline.ai_usage_hourly where hour >= :start and hour < :until",
    "delete from paceline.ai_usage_fleet_hourly where hour >= :start and hour < :until",
    "delete from paceline.ai_latency_hourly where hour >= :start and hour < :until",
    "delete from paceline.ai_usage_daily where day >= :first and day < :last",
    "delete from paceline.ai_usage_agent_daily where day >= :first and day < :last",
    f"""
    insert into paceline.ai_usage_hourly (hour, agent_id, request_type, model, outcome, {_NAMES})
    select date_trunc('hour', created_at, :zone), agent_id, request_type, model, {OUTCOME}, {_FROM_LEDGER}
    from paceline.ai_request_log where created_at >= :start and created_at < :until group by 1, 2, 3, 4, 5
    """,
    f"""
    insert into paceline.ai_usage_fleet_hourly (hour, request_type, model, outcome, {_NAMES})
    select hour, request_type, model, outcome, {_FROM_HOURS} from paceline.ai_usage_hourly
    where hour >= :start and hour < :until group by 1, 2, 3, 4
    """,
    f"""
    insert into paceline.ai_latency_hourly (hour, request_type, bucket, requests)
    select date_trunc('hour', created_at, :zone), request_type, {BUCKET}, count(*)
    from paceline.ai_request_log
    where created_at >= :start and created_at < :until and status = 'ok' and latency_ms is not null
    group by 1, 2, 3
    """,
    f"""
    insert into paceline.ai_usage_daily (day, agent_id, request_type, model, outcome, {_NAMES})
    select {_DAY}, agent_id, request_type, model, outcome, {_FROM_HOURS} from paceline.ai_usage_hourly
    where hour >= :midnight and hour < :end group by 1, 2, 3, 4, 5
    """,
    f"""
    insert into paceline.ai_usage_agent_daily
      (day, agent_id, ok, rate_limited, credits_exhausted, {_NAMES})
    select {_DAY}, agent_id, coalesce(sum(requests) filter (where outcome = 'ok'), 0),
      coalesce(sum(requests) filter (where outcome = 'rate_limited'), 0),
      coalesce(sum(requests) filter (where outcome = 'credits_exhausted'), 0), {_FROM_HOURS}
    from paceline.ai_usage_hourly where hour >= :midnight and hour < :end group by 1, 2
    """,
)


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What a round did: from where it recomputed, and the days that it froze."""

    since: datetime | None
    frozen: tuple[date, ...] = ()

    def __str__(self) -> str:
        since = f"{self.since:%Y-%m-%d %H:%M}" if self.since else "nothing yet"
        return f"since {since}" + "".join(f", {day} frozen" for day in self.frozen)


def roll_up(connection: Connection, zone: ZoneInfo) -> RolledUp:
    """One round; rounds at the same time take turns. Raises ConfigError when the rollups are of another
    zone.
    """
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.usage.roll_up'))"))
    check_zone(connection, zone)
    now, start = connection.execute(
        text("""
          select now(), greatest(
            coalesce((select max(hour) - cast(:back as interval) from paceline.ai_usage_fleet_hourly),
              (select date_trunc('hour', min(created_at), :zone) from paceline.ai_request_log)),
            (select (max(day) + 1)::timestamp at time zone :zone from paceline.usage_days))
        """),
        {"back": LOOK_BACK, "zone": zone.key},
    ).one()
    if start is None:
        return RolledUp(None)
    newest = text("select max(created_at) from paceline.ai_request_log where created_at >= :start")
    latest = connection.execute(newest, {"start": start}).scalar_one() or now
    _recompute(connection, zone, start, max(now, latest) + timedelta(hours=1))
    frozen = _freeze(connection, zone, now)
    old = {"before": now - HOURS_KEPT}
    connection.execute(
        text("""
          delete from paceline.ai_usage_hourly where hour < :before and exists (
            select from paceline.usage_days where day >= (cast(:before as timestamptz))::date)
        """),
        old,
    )
    connection.execute(
        text("""
          insert into paceline.usage_state (rolled_at, zone) values (:now, :zone)
          on conflict (id) do update set rolled_at = excluded.rolled_at, zone = excluded.zone
        """),
        {"now": now, "zone": zone.key},
    )
    return RolledUp(start, tuple(frozen))


def read_zone(connection: Connection) -> str | None:
    """The time zone whose days the rollups are of; None when nothing was summed up yet."""
    query = text("select zone from paceline.usage_state")
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def check_zone(connection: Connection, zone: ZoneInfo) -> None:
    """Raise ConfigError when the rollups are of another zone's days: mixed, no sum would be right."""
    known = read_zone(connection)
    if known is not None and known != zone.key:
        raise ConfigError(
            f"the usage is summed up by the days of {known}, and PACELINE_TIMEZONE is {zone.key}: stop the "
            f"fleet and run `paceline db rezone`, or set PACELINE_TIMEZONE={known} again"
        )


def rezone(engine: Engine, zone: ZoneInfo, tell: Callable[[int, int], None]) -> None:
    """Make every rollup anew by the days of another time zone, in one transaction. `tell` hears how many days
    are done, of how many. Raises ConfigError when the calls of some summed up days are gone.
    """
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.usage.roll_up'))"))
        known = read_zone(connection)
        first, last, summed = connection.execute(
            text("""
              select min(created_at), max(created_at),
                (select min(hour) from paceline.ai_usage_fleet_hourly where requests > 0)
              from paceline.ai_request_log
            """)
        ).one()
        if summed is not None and (first is None or summed + timedelta(hours=1) <= first):
            raise ConfigError(
                f"the calls of {summed:%Y-%m-%d} to {first or utcnow():%Y-%m-%d} are gone "
                "(PACELINE_USAGE__KEEP_DAYS), so their sums cannot be made anew: set "
                f"PACELINE_TIMEZONE={known} again"
            )
        for table in ("ai_usage_hourly", "ai_usage_fleet_hourly", "ai_latency_hourly", "ai_usage_daily",
                      "ai_usage_agent_daily", "usage_days", "usage_rankings"):  # fmt: skip
            connection.execute(text(f"delete from paceline.{table}"))
        if first is not None:
            day, end = first.astimezone(zone).date(), last.astimezone(zone).date()
            whole = (end - day).days + 1
            for done in range(whole):
                start = _midnight(day + timedelta(days=done), zone)
                following = _midnight(day + timedelta(days=done + 1), zone)
                _recompute(connection, zone, start, following)
                tell(done + 1, whole)
        connection.execute(text("update paceline.usage_state set zone = :zone"), {"zone": zone.key})


def _recompute(connection: Connection, zone: ZoneInfo, start: datetime, until: datetime) -> None:
    """Everything of the hours in `start <= hour < until`, and of the days that they are in."""
    first, last = start.astimezone(zone).date(), until.astimezone(zone).date() + timedelta(days=1)
    given = {
        "zone": zone.key, "start": start, "until": until, "first": first, "last": last,
        "midnight": _midnight(first, zone), "end": _midnight(last, zone),
    }  # fmt: skip
    for statement in _ROUND:
        connection.execute(text(statement), given)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


_SUMS = "coalesce(sum(requests), 0), coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0)"
_LEDGER_DAY = text("""
  select count(*), coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0),
    count(*) filter (where status = 'in_flight')
  from paceline.ai_request_log where created_at >= :midnight and created_at < :end
""")


def _freeze(connection: Connection, zone: ZoneInfo, now: datetime) -> list[date]:
    """Freeze the days that are over, in order, each only when its rollups equal the ledger."""
    over = (now - SETTLED).astimezone(zone).date()
    query = text("""
      select generate_series(
        coalesce((select max(day) + 1 from paceline.usage_days),
                 (select min(day) from paceline.ai_usage_daily)),
        cast(:over as date) - 1, interval '1 day')::date
    """)  # days without a call, too
    frozen = []
    for day in connection.execute(query, {"over": over}).scalars().all():
        midnight, end = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
        given = {"midnight": midnight, "end": end}
        *ledger, in_flight = connection.execute(_LEDGER_DAY, given).one()
        if in_flight:
            break
        if _rollups_of_day(connection, day, midnight, end) != [tuple(ledger)] * 3:
            _recompute(connection, zone, midnight, end)
        if _rollups_of_day(connection, day, midnight, end) != [tuple(ledger)] * 3:
            break  # shown by `paceline audit`
        row = dict(zip(("requests", "tokens_used", "cost_micros"), ledger, strict=True))
        connection.execute(
            text("""
              insert into paceline.usage_days (day, requests, tokens_used, cost_micros)
              values (:day, :requests, :tokens_used, :cost_micros)
            """),
            {"day": day, **row},
        )
        frozen.append(day)
    return frozen


def _rollups_of_day(
    connection: Connection, day: date, midnight: datetime, end: datetime
) -> list[tuple[int, ...]]:
    """Requests, LLM tokens and micro-dollars of a day by the fleet's hours and by both kinds of days."""
    return [
        tuple(connection.execute(text(query), {"day": day, "midnight": midnight, "end": end}).one())
        for query in (
            f"select {_SUMS} from paceline.ai_usage_fleet_hourly where hour >= :midnight and hour < :end",
            f"select {_SUMS} from paceline.ai_usage_daily where day = :day",
            f"select {_SUMS} from paceline.ai_usage_agent_daily where day = :day",
        )
    ]


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


def find_differences(
    connection: Connection, zone: ZoneInfo, days: int | None = None
) -> list[Difference]:
    """Sums that differ, to the token and the micro-dollar. A frozen day is compared with what was found when
    it was frozen, because its calls may be gone; days since then with the ledger, by agent. `days`: only so
    many of the frozen ones, the newest. The newest two hours are left out: they are still being written.
    """
    first_frozen, last = connection.execute(
        text("select min(day), max(day) from paceline.usage_days")
    ).one()
    found: list[Difference] = []
    if last is not None:
        if days is not None:
            first_frozen = max(first_frozen, last - timedelta(days=days - 1))
        found += _of_frozen(connection, zone, first_frozen, last)
    cut = connection.execute(
        text("""
          select date_trunc('hour', max(hour) - cast(:back as interval), :zone)
          from paceline.ai_usage_fleet_hourly
        """),
        {"back": LOOK_BACK, "zone": zone.key},
    ).scalar_one()
    first = _midnight(last + timedelta(days=1), zone) if last else datetime(2000, 1, 1, tzinfo=zone)
    if cut is not None and cut > first:
        found += _of_open(connection, zone, first, cut)
    found += _of_today(connection, zone)
    return found[:MOST]


def _of_today(connection: Connection, zone: ZoneInfo) -> list[Difference]:
    """The day that is still being written: its rollups are made together, so they equal one another."""
    day = connection.execute(
        text(f"select max({_DAY}) from paceline.ai_usage_fleet_hourly"), {"zone": zone.key}
    ).scalar_one()
    if day is None:
        return []
    given = {
        "day": day,
        "midnight": _midnight(day, zone),
        "end": _midnight(day + timedelta(days=1), zone),
    }
    hours, *days = (_three(sums) for sums in _rollups_of_day(connection, **given))
    names = ("ai_usage_daily", "ai_usage_agent_daily")
    return [
        Difference(day, None, name, hours, sums)
        for name, sums in zip(names, days, strict=True)
        if sums != hours
    ]


def _of_frozen(connection: Connection, zone: ZoneInfo, first: date, last: date) -> list[Difference]:
    found = []
    given = _span(zone, _midnight(first, zone), _midnight(last + timedelta(days=1), zone))
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


def _of_open(
    connection: Connection, zone: ZoneInfo, start: datetime, until: datetime
) -> list[Difference]:
    """Whole hours since the last frozen day: the fleet's hours to the last whole one, agents' days before the
    day that is still being written.
    """
    found = []
    ledger = """
      select (created_at at time zone :zone)::date as day, agent_id, count(*) as n,
        coalesce(sum(tokens_used), 0) as t, coalesce(sum(cost_micros), 0) as c
      from paceline.ai_request_log where created_at >= :start and created_at < :until group by 1, 2
    """
    whole_days = min(until, _midnight(until.astimezone(zone).date(), zone))
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
    end = last.date() if last == _midnight(last.date(), zone) else last.date() + timedelta(days=1)
    return {
        "zone": zone.key, "start": start, "until": until, "first": start.astimezone(zone).date(), "last": end,
    }  # fmt: skip


def _three(numbers: Sequence[int]) -> tuple[int, int, int]:
    requests, tokens, micros = numbers
    return requests, tokens, micros
