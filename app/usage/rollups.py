"""Rollups: the ledger summed up by hour and by day.

A round moves the watermark: calls before it are final and summed up, calls after it are read from the ledger.
The oldest call in flight holds the watermark back. A round sums the newest hour up anew and writes the sums
that changed. Days get the difference between an hour's new and old sums, so a repeated round changes nothing.
The first round of an hour reads an hour more, for calls that were given up and ended after all. A day that
is over is compared with the ledger, mended if it differs, and frozen. Nothing of a frozen day is written any
more, and its part of the ledger may be dropped.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.errors import ConfigError
from app.kinds import BILLABLE
from app.usage.latency import BUCKET

LOOK_BACK = timedelta(hours=2)
"""A call takes minutes at most, and is given up after a few more: its row is final by then."""
AGAIN = timedelta(hours=1)
"""The first round of an hour sums up the hour that ended and so much before it: a call that was given up may
end after all, minutes later.
"""
LATE = timedelta(minutes=2)
"""How long after a moment a row of that moment may still be committed, at most. A row that came later still
is found when its day is compared.
"""
HOURS_KEPT = timedelta(days=4)
"""Hours by agent are what days are made from; then they have done their work."""
SETTLED = timedelta(hours=6)
"""A day is frozen so long after its end."""

OUTCOME = "case when status = 'error' then coalesce(error_code, 'error') else status end"
"""Outcome of a call, in the words of app.kinds; `ok`, `unknown` and `in_flight` are states of the row."""
COST_UNKNOWN = f"""case when cost_micros is null and (status <> 'error' or error_code in
  ({", ".join(f"'{code}'" for code in BILLABLE)})) then coalesce(cost_reserved, 0) else 0 end"""
"""Micro-dollars reserved for a call whose cost nobody knows: the rule of app.usage.calls.is_unsure."""

TOKENS_UNKNOWN = f"""case when tokens_used is null and (status <> 'error' or error_code in
  ({", ".join(f"'{code}'" for code in BILLABLE)})) then tokens_reserved else 0 end"""
"""LLM tokens reserved for a call whose usage nobody knows, by the same rule."""

_NAMES = """requests, tokens_input, tokens_output, tokens_used, tokens_unknown, cost_micros,
  cost_unknown_micros, unpriced"""
_FROM_LEDGER = f"""count(*) as requests, coalesce(sum(tokens_input), 0) as tokens_input,
  coalesce(sum(tokens_output), 0) as tokens_output, coalesce(sum(tokens_used), 0) as tokens_used,
  coalesce(sum({TOKENS_UNKNOWN}), 0) as tokens_unknown, coalesce(sum(cost_micros), 0) as cost_micros,
  coalesce(sum({COST_UNKNOWN}), 0) as cost_unknown_micros,
  count(*) filter (where status = 'ok' and cost_micros is null) as unpriced"""
_FROM_HOURS = ", ".join(f"sum({name.strip()})" for name in _NAMES.split(","))
DAY = "(hour at time zone :zone)::date"

_KEY = "hour, agent_id, request_type, model, outcome"
_EACH = [name.strip() for name in _NAMES.split(",")]
_DIFFERENCE = ", ".join(f"sum({name})::bigint as {name}" for name in _EACH)
_IS_CHANGED = " or ".join(f"sum({name}) <> 0" for name in _EACH)
_NEGATIVE = ", ".join(f"-{name}" for name in _EACH)


def _added(table: str) -> str:
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _EACH)


_HOURS = f"""
  with made as materialized (
    select date_trunc('hour', created_at, :zone) as hour, agent_id, request_type, model, {OUTCOME} as outcome,
      {_FROM_LEDGER}
    from paceline.ai_request_log where created_at >= :start and created_at < :until group by 1, 2, 3, 4, 5
  ), known as materialized (
    select {_KEY}, {_NAMES} from paceline.ai_usage_hourly where hour >= :start and hour < :until
  ), changed as materialized (
    select {DAY} as day, agent_id, request_type, model, outcome, {_DIFFERENCE}
    from (select * from made union all select {_KEY}, {_NEGATIVE} from known) both_sides
    group by 1, 2, 3, 4, 5 having {_IS_CHANGED}
  ), of_days as (
    insert into paceline.ai_usage_daily (day, agent_id, request_type, model, outcome, {_NAMES})
    select * from changed
    on conflict (day, agent_id, request_type, model, outcome) do update set {_added("ai_usage_daily")}
  ), of_agents as (
    insert into paceline.ai_usage_agent_daily
      (day, agent_id, ok, rate_limited, credits_exhausted, {_NAMES})
    select day, agent_id, coalesce(sum(requests) filter (where outcome = 'ok'), 0),
      coalesce(sum(requests) filter (where outcome = 'rate_limited'), 0),
      coalesce(sum(requests) filter (where outcome = 'credits_exhausted'), 0), {_FROM_HOURS}
    from changed group by 1, 2
    on conflict (day, agent_id) do update set ok = ai_usage_agent_daily.ok + excluded.ok,
      rate_limited = ai_usage_agent_daily.rate_limited + excluded.rate_limited,
      credits_exhausted = ai_usage_agent_daily.credits_exhausted + excluded.credits_exhausted,
      {_added("ai_usage_agent_daily")}
  ), gone as (
    delete from paceline.ai_usage_hourly where hour >= :start and hour < :until and ({_KEY}) in
      (select {_KEY} from known except select {_KEY} from made)
  )
  insert into paceline.ai_usage_hourly ({_KEY}, {_NAMES}) select * from made except select * from known
  on conflict ({_KEY}) do update set {", ".join(f"{name} = excluded.{name}" for name in _EACH)}
"""
"""All parts of it see the tables as they were before it."""

_ROUND = (
    _HOURS,
    "delete from paceline.ai_usage_daily where day >= :first and day < :last and requests = 0",
    "delete from paceline.ai_usage_agent_daily where day >= :first and day < :last and requests = 0",
    "delete from paceline.ai_usage_fleet_hourly where hour >= :start and hour < :until",
    f"""
    insert into paceline.ai_usage_fleet_hourly (hour, request_type, model, outcome, {_NAMES})
    select hour, request_type, model, outcome, {_FROM_HOURS} from paceline.ai_usage_hourly
    where hour >= :start and hour < :until group by 1, 2, 3, 4
    """,
    "delete from paceline.ai_latency_hourly where hour >= :start and hour < :until",
    f"""
    insert into paceline.ai_latency_hourly (hour, request_type, bucket, requests)
    select date_trunc('hour', created_at, :zone), request_type, {BUCKET}, count(*)
    from paceline.ai_request_log
    where created_at >= :start and created_at < :until and status = 'ok' and latency_ms is not null
    group by 1, 2, 3
    """,
)

_NEXT = text("""
  select now(), least(now() - cast(:late as interval), (
    select min(created_at) from paceline.ai_request_log
    where status = 'in_flight' and created_at > now() - cast(:back as interval)))
""")


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Result of a round: the hour from which it summed up, and the days that it froze."""

    since: datetime | None
    frozen: tuple[date, ...] = ()

    def __str__(self) -> str:
        since = f"{self.since:%Y-%m-%d %H:%M}" if self.since else "nothing yet"
        return f"since {since}" + "".join(f", {day} frozen" for day in self.frozen)


_WATERMARK = text("""
  select coalesce((select case when watermark_of = rolled_at then watermark else rolled_at end
    from paceline.usage_state), '2000-01-01')
""")
_START = text("""
  select greatest(
    (select date_trunc('hour', watermark, :zone) from paceline.usage_state
     where watermark_of = rolled_at and date_trunc('hour', now()) = date_trunc('hour', rolled_at)),
    coalesce((select max(hour) - cast(:again as interval) from paceline.ai_usage_fleet_hourly),
      (select date_trunc('hour', min(created_at), :zone) from paceline.ai_request_log)),
    (select (max(day) + 1)::timestamp at time zone :zone from paceline.usage_days))
""")


def read_watermark(connection: Connection) -> datetime:
    """Return the watermark: calls before it are in the sums, later ones are read from the ledger. A round of
    the release before wrote none, and summed up all there was.

    Every report asks for it, unless it is given one that was read a moment ago. It goes into the queries as a
    value, because PostgreSQL then plans for the one or two partitions that matter, not for all (0.5 ms
    instead of 23 with 92 of them).
    """
    watermark: datetime = connection.execute(_WATERMARK).scalar_one()
    return watermark


def roll_up(connection: Connection, zone: ZoneInfo, late: timedelta = LATE) -> RolledUp:
    """Do one round; rounds at the same time take turns. `late`: how far the watermark stays behind, at least.
    Raises ConfigError when the rollups are of another zone.
    """
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.usage.roll_up'))"))
    known = connection.execute(text("select zone from paceline.usage_state")).scalar_one_or_none()
    if known not in (None, zone.key):
        raise ConfigError(another_zone(known, zone))
    now, watermark = connection.execute(_NEXT, {"late": late, "back": LOOK_BACK}).one()
    start = connection.execute(_START, {"again": AGAIN, "zone": zone.key}).scalar_one()
    if start is None:
        return RolledUp(None)
    sum_up(connection, zone, start, max(start, watermark))
    frozen = freeze(connection, zone, min(now - SETTLED, max(start, watermark)))
    old = {"before": now - HOURS_KEPT}
    connection.execute(
        text("""
          delete from paceline.ai_usage_hourly where hour < :before and exists (
            select from paceline.usage_days where day >= (cast(:before as timestamptz))::date)
        """),
        old,
    )
    set_watermark(connection, zone, now, max(start, watermark))
    return RolledUp(start, tuple(frozen))


def set_watermark(connection: Connection, zone: ZoneInfo, now: datetime, watermark: datetime) -> None:
    """Write down what a round summed up."""
    connection.execute(
        text("""
          insert into paceline.usage_state (rolled_at, zone, watermark, watermark_of)
          values (:now, :zone, :watermark, :now)
          on conflict (id) do update set rolled_at = excluded.rolled_at, zone = excluded.zone,
            watermark = excluded.watermark, watermark_of = excluded.watermark_of
        """),
        {"now": now, "zone": zone.key, "watermark": watermark},
    )


def another_zone(known: str, zone: ZoneInfo) -> str:
    """Return the message for a person who set another time zone."""
    return (
        f"the usage is summed up by the days of {known}, and PACELINE_TIMEZONE is {zone.key}: stop the "
        f"fleet and run `paceline db rezone`, or set PACELINE_TIMEZONE={known} again"
    )


def sum_up(connection: Connection, zone: ZoneInfo, start: datetime, until: datetime) -> None:
    """Bring sums to what the ledger says of `start <= created_at < until`, and nothing after it in these
    hours. `start` is a whole hour.
    """
    first, last = start.astimezone(zone).date(), until.astimezone(zone).date() + timedelta(days=1)
    given = {"zone": zone.key, "start": start, "until": until, "first": first, "last": last}
    for statement in _ROUND:
        connection.execute(text(statement), given)


def recompute(connection: Connection, zone: ZoneInfo, day: date, until: datetime) -> None:
    """Make all sums of a day anew, whatever they were, of its calls before `until`."""
    began, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    given = {"day": day, "began": began, "end": end}
    for statement in (
        "delete from paceline.ai_usage_hourly where hour >= :began and hour < :end",
        "delete from paceline.ai_usage_daily where day = :day",
        "delete from paceline.ai_usage_agent_daily where day = :day",
    ):
        connection.execute(text(statement), given)
    sum_up(connection, zone, began, min(end, until))


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Where a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=zone)


_SUMS = "coalesce(sum(requests), 0), coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0)"
_LEDGER_DAY = text("""
  select count(*), coalesce(sum(tokens_used), 0), coalesce(sum(cost_micros), 0),
    count(*) filter (where status = 'in_flight')
  from paceline.ai_request_log where created_at >= :midnight and created_at < :end
""")


def freeze(connection: Connection, zone: ZoneInfo, before: datetime) -> list[date]:
    """Freeze the days that ended by then, in order, each only when its rollups equal the ledger."""
    over = before.astimezone(zone).date()
    query = text("""
      select generate_series(
        coalesce((select max(day) + 1 from paceline.usage_days),
                 (select min(day) from paceline.ai_usage_daily)),
        cast(:over as date) - 1, interval '1 day')::date
    """)  # days without a call, too
    frozen = []
    for day in connection.execute(query, {"over": over}).scalars().all():
        began, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
        given = {"midnight": began, "end": end}
        *ledger, in_flight = connection.execute(_LEDGER_DAY, given).one()
        if in_flight:
            break
        if rollups_of_day(connection, day, began, end) != [tuple(ledger)] * 3:
            recompute(connection, zone, day, end)
        if rollups_of_day(connection, day, began, end) != [tuple(ledger)] * 3:
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


def rollups_of_day(
    connection: Connection, day: date, began: datetime, end: datetime
) -> list[tuple[int, ...]]:
    """Requests, LLM tokens and micro-dollars of a day by the fleet's hours and by both kinds of days."""
    return [
        tuple(connection.execute(text(query), {"day": day, "midnight": began, "end": end}).one())
        for query in (
            f"select {_SUMS} from paceline.ai_usage_fleet_hourly where hour >= :midnight and hour < :end",
            f"select {_SUMS} from paceline.ai_usage_daily where day = :day",
            f"select {_SUMS} from paceline.ai_usage_agent_daily where day = :day",
        )
    ]
