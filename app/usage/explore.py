"""Usage by something over some days, of what is chosen: one question behind page, CSV, API and command line.

Days are those of the business time zone, so every bound is a midnight and today ends now. Sums of days come
from the rollups, the newest calls from the ledger (app.usage.rollups).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from sqlalchemy import Connection, text

from app.errors import ConfigError
from app.text import storable
from app.usage.periods import SPANS, Span, span_start
from app.usage.ranking import read_ranking
from app.usage.reports import EACH, OPEN, Group, Metric, Step, Usage
from app.usage.rollups import HOURS_KEPT, midnight, read_watermark

DAYS_MAX = 400
EARLIEST = date(2020, 1, 1)
STACKED = 7
"""So many names have a colour of their own in a chart; the others are one."""
ROWS = 100
"""Rows of a page; a ranking that is kept ready has as many."""

_COLUMNS = {
    Group.AGENT: "a.handle",
    Group.COMMUNITY: "c.name",
    Group.TYPE: "u.request_type",
    Group.MODEL: "u.model",
    Group.OUTCOME: "u.outcome",
}
_OF_AGENTS = {Group.AGENT, Group.COMMUNITY}
_SUMMED = "requests, tokens_input, tokens_output, cost_micros, cost_unknown_micros, unpriced"
_DETAIL = f"request_type, model, outcome, {_SUMMED}"
_LOCAL = "at time zone :zone"
_OPEN_OF = f"""select date_trunc('{{step}}', at {_LOCAL}) as at, agent_id, {_DETAIL}
  from ({OPEN}) newest"""
_SOURCES = {
    "days of agents": f"""
      select day::timestamp as at, agent_id, {_DETAIL} from paceline.ai_usage_daily
      where day >= :first_day and day < :whole_until union all {_OPEN_OF}""",
    "hours of agents": f"""
      select hour {_LOCAL} as at, agent_id, {_DETAIL} from paceline.ai_usage_hourly
      where hour >= :start and hour < :rolled_until union all {_OPEN_OF}""",
    "the fleet": f"""
      select date_trunc('{{step}}', hour {_LOCAL}) as at, null::uuid as agent_id, {_DETAIL}
      from paceline.ai_usage_fleet_hourly
      where hour >= :start and hour < :rolled_until union all {_OPEN_OF}""",
}
_AGENT = "join paceline.agents a on a.id = u.agent_id join paceline.communities c on c.id = a.community_id"
_METRICS = {
    Metric.COST: "u.cost_micros",
    Metric.REQUESTS: "u.requests",
    Metric.TOKENS: "u.tokens_input + u.tokens_output",
    Metric.ERRORS: "u.requests * (u.outcome <> 'ok')::int",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question: a metric by a group, from the day `since` to the day `until`, both included; `only` what
    these names of groups say. `span`: the name of these days, if they have one.
    """

    since: date
    until: date
    metric: Metric = Metric.COST
    by: Group = Group.AGENT
    only: Mapping[Group, str] = field(default_factory=dict)
    span: Span | None = None

    @property
    def days(self) -> int:
        """How many days."""
        return (self.until - self.since).days + 1

    @property
    def days_in_words(self) -> str:
        """This month, or 2026-11-01 to 2026-11-15."""
        if self.span:
            return SPANS[self.span]
        return f"{self.since}" if self.days == 1 else f"{self.since} to {self.until}"

    def window(self, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Its first moment, and the one after its last; today ends now."""
        return midnight(self.since, zone), min(now, midnight(self.until + timedelta(days=1), zone))


@dataclass(frozen=True, slots=True)
class Row:
    """One name; `before` is the metric in the period before, None where it was not asked."""

    name: str
    usage: Usage
    before: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """A breakdown with its whole; `rest` is the part that the rows leave out. `before`: the whole's metric in
    as many days before. `ranked_at`: when the rows were ranked, if that was not just now. `watermark`: see
    app.usage.rollups; `first`: the hour of the first call that was ever summed up.
    """

    as_of: datetime
    watermark: datetime
    first: datetime | None
    question: Question
    rows: list[Row]
    total: Usage
    before: int
    rest: Usage
    ranked_at: datetime | None


def _empty(given: object) -> object:
    return None if given == "" else given


Day = Annotated[date | None, BeforeValidator(_empty)]


Name = Annotated[str, AfterValidator(lambda name: storable(name, 200))]


class Asked(BaseModel):
    """A question in the words of an address, a form or a command line; empty words were not given."""

    metric: Metric = Metric.COST
    by: Group = Group.AGENT
    period: Span = Span.TODAY
    since: Day = Field(None, description="First day, instead of a period: 2026-11-30")
    until: Day = Field(None, description="Last day; without it today")
    agent: Name = Field("", max_length=200, description="Only of this agent")
    community: Name = Field("", max_length=200, description="Only of this community")
    type: Name = Field("", max_length=200, description="Only calls of this type")
    model: Name = Field("", max_length=200, description="Only calls of this model")
    outcome: Name = Field("", max_length=200, description="Only calls with this outcome")

    def question(self, now: datetime, zone: ZoneInfo) -> Question:
        """Return the question; raises ConfigError for days that make no sense."""
        today = now.astimezone(zone).date()
        only = {group: name for group in Group if (name := getattr(self, group))}
        if self.since is None and self.until is None:
            first = span_start(self.period, now, zone).astimezone(zone).date()
            return Question(first, today, self.metric, self.by, only, self.period)
        until = min(self.until or today, today)
        since = self.since or until
        if since < EARLIEST:
            raise ConfigError(f"nothing was called before {EARLIEST.year}: begin with a later day")
        if since > until:
            raise ConfigError(f"the first day ({since}) is after the last one ({until})")
        if (until - since).days >= DAYS_MAX:
            first = until - timedelta(days=DAYS_MAX - 1)
            raise ConfigError(f"at most {DAYS_MAX} days at once: begin with {first}")
        return Question(since, until, self.metric, self.by, only)


def explore(
    connection: Connection, question: Question, now: datetime, zone: ZoneInfo, limit: int = ROWS
) -> Found:
    """Answer a question: the first rows by its metric, and the whole."""
    ranked, watermark = None, read_watermark(connection)
    if question.span and not question.only and limit <= ROWS:
        ranked = read_ranking(connection, question.span, question.by, question.metric, now, zone)
    if ranked:
        first, whole, before, _ = _ask(connection, replace(question, by=Group.TYPE), now, zone, watermark, 0)
        rows = [Row(name, usage, None) for name, usage in ranked.rows[:limit]]
    else:
        first, whole, before, rows = _ask(connection, question, now, zone, watermark, limit)
    names = Usage.__slots__
    sums = {name: getattr(whole, name) - sum(getattr(row.usage, name) for row in rows) for name in names}
    rest = Usage(**{name: max(0, value) for name, value in sums.items()})
    return Found(now, watermark, first, question, rows, whole, before, rest, ranked.as_of if ranked else None)


def _ask(
    connection: Connection, question: Question, now: datetime, zone: ZoneInfo, watermark: datetime, limit: int
) -> tuple[datetime | None, Usage, int, list[Row]]:
    """The first hour ever, the whole, its metric in the period before, and the rows: one query for all."""
    metric = _METRICS[question.metric]
    sums = ", ".join(f"coalesce(sum(({each}) * is_now), 0) as s{n}" for n, each in enumerate(EACH))
    source, given = _source(question, now, zone, watermark, Step.DAY, periods=2)
    query = text(f"""
      select *, (select min(hour) from paceline.ai_usage_fleet_hourly) as first from (
        select {_COLUMNS[question.by]} as name, grouping({_COLUMNS[question.by]}) as is_whole, {sums},
          coalesce(sum(({metric}) * is_now), 0) as ranked,
          coalesce(sum(({metric}) * (1 - is_now)), 0) as before
        from (select *, (at >= :since)::int as is_now from ({source}) u) u {_joins_and_choice(question)}
        group by grouping sets (({_COLUMNS[question.by]}), ())
      ) found where is_whole = 1 or s0 > 0
      order by is_whole desc, ranked desc, s0 desc, name limit :limit
    """)
    given |= {"since": datetime.combine(question.since, datetime.min.time()), "limit": limit + 1}
    whole, *rows = connection.execute(query, given).all()
    return (
        whole.first,
        Usage(*map(int, whole[2:12])),
        int(whole.before),
        [Row(str(row.name), Usage(*map(int, row[2:12])), int(row.before)) for row in rows],
    )


@dataclass(frozen=True, slots=True)
class Series:
    """The metric over time, in steps of an hour or a day: of the first names, and of all others together.
    None: before the first call ever.
    """

    step: Step
    times: list[datetime]
    values: dict[str, list[int | None]]


OTHERS = "all others"


def series_of(connection: Connection, found: Found, zone: ZoneInfo) -> Series:
    """The metric of the first rows and of all others; by the hour for a question about a day or two."""
    question, now = found.question, found.as_of
    names = [row.name for row in found.rows[:STACKED]]
    is_recent = midnight(question.since, zone) >= now - HOURS_KEPT + timedelta(days=1)
    step = Step.HOUR if question.days <= 2 and (is_recent or not _is_of_agents(question)) else Step.DAY
    source, given = _source(question, now, zone, found.watermark, step)
    column = _COLUMNS[question.by]
    query = text(f"""
      select at, case when {column} = any(:names) then {column} end as name, sum({_METRICS[question.metric]})
      from ({source}) u {_joins_and_choice(question)} group by 1, 2
    """)
    rows = connection.execute(query, given | {"names": names})
    sums = {(at, name or OTHERS): int(value) for at, name, value in rows}
    known = [found.first.astimezone(zone).replace(tzinfo=None)] if found.first else []
    first = min([*known, *(at for at, _ in sums)], default=None)
    length = timedelta(hours=1) if step is Step.HOUR else timedelta(days=1)
    start = datetime.combine(question.since, datetime.min.time())
    end = min(now.astimezone(zone).replace(tzinfo=None), start + timedelta(days=question.days))
    times = [start + n * length for n in range(-(-(end - start) // length))]
    every = [name for name in (*names, OTHERS) if any(key == name for _, key in sums)] or [OTHERS]
    values: dict[str, list[int | None]] = {
        name: [None if first is None or at + length <= first else sums.get((at, name), 0) for at in times]
        for name in every
    }
    return Series(step, times, values)


def _is_of_agents(question: Question) -> bool:
    return bool(_OF_AGENTS & {question.by, *question.only})


def _joins_and_choice(question: Question) -> str:
    joins = _AGENT if _is_of_agents(question) else ""
    chosen = " and ".join(f"{_COLUMNS[group]} = :only_{group}" for group in question.only)
    return f"{joins} where {chosen}" if chosen else joins


def _source(
    question: Question, now: datetime, zone: ZoneInfo, watermark: datetime, step: Step, periods: int = 1
) -> tuple[str, dict[str, Any]]:
    """Rows of the question's days, and of as many before for 2 `periods`, with the values to ask with."""
    if not _is_of_agents(question):
        name = "the fleet"
    else:
        name = "hours of agents" if step is Step.HOUR else "days of agents"
    first = question.since - timedelta(days=question.days * (periods - 1))
    start, until = midnight(first, zone), question.window(now, zone)[1]
    given = {
        "zone": zone.key,
        "start": start,
        "until": until,
        "open_from": max(start, watermark),
        "rolled_until": min(until, watermark),
        "first_day": first,
        "whole_until": question.until + timedelta(days=1),
    }
    return _SOURCES[name].format(step=step), given | {
        f"only_{group}": name for group, name in question.only.items()
    }
