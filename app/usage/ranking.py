"""Rankings of use, today and over months, kept ready: among 100,000 agents that takes seconds to find out.

A background job ranks from time to time, each ranking again no sooner than fifty times as long as it took:
with a hundred agents that is every minute. Pages read what is ready where asking anew would be slow.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.dialects.postgresql import insert

from app.clock import monotonic
from app.models import Ranking
from app.usage.periods import Span, span_start
from app.usage.reports import Group, Metric, Usage, breakdown

KEPT = 100
SLOW = timedelta(milliseconds=100)
"""A ranking that takes longer, all metrics together, is read as it was made last."""
REST = 50
SOONEST = timedelta(seconds=60)
OLDEST = timedelta(days=1)
GROUPS = (Group.AGENT, Group.COMMUNITY)
SPANS = (Span.TODAY, Span.WEEK, Span.MONTH, Span.DAYS_30, Span.DAYS_90)


_TURN = text("select pg_try_advisory_xact_lock(hashtext('paceline.usage.rank'))")
"""A round may take longer than the time to the next one, which then has nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The first of a breakdown, as of that moment."""

    as_of: datetime
    rows: list[tuple[str, Usage]]


def rank(engine: Engine, now: datetime, zone: ZoneInfo) -> str:
    """Rank anew what is due; returns what it did."""
    done = 0
    for span in SPANS:
        for by in GROUPS:
            with engine.begin() as connection:
                if not connection.execute(_TURN).scalar_one():
                    return f"{done} rankings, somebody else is at it"
                if not _is_due(connection, span, by, now):
                    continue
                began = monotonic()
                rows = _best(connection, span, by, now, zone)
                row = {"as_of": now, "took_ms": round((monotonic() - began) * 1000), "rows": rows}
                ranking = insert(Ranking).values(span=span, by=by, **row)
                connection.execute(ranking.on_conflict_do_update(index_elements=["span", "by"], set_=row))
                done += 1
    return f"{done} rankings"


def read_ranking(
    connection: Connection, span: Span, by: Group, metric: Metric, now: datetime, zone: ZoneInfo
) -> Ranked | None:
    """The ranking by this metric; None where asking anew is fast, or none is ready."""
    query = select(Ranking.as_of, Ranking.took_ms, Ranking.rows)
    row = connection.execute(query.where(Ranking.span == span, Ranking.by == by)).one_or_none()
    if row is None or now - row.as_of > OLDEST or timedelta(milliseconds=row.took_ms) <= SLOW:
        return None
    if span_start(span, row.as_of, zone) != span_start(span, now, zone):
        return None  # of last week, say, before the first ranking of this one
    found = [(name, Usage(**usage)) for name, usage in row.rows]
    found.sort(key=lambda one: (-getattr(one[1], metric), -one[1].requests, one[0]))
    return Ranked(row.as_of, found[:KEPT])


def _is_due(connection: Connection, span: Span, by: Group, now: datetime) -> bool:
    query = select(Ranking.as_of, Ranking.took_ms).where(Ranking.span == span, Ranking.by == by)
    row = connection.execute(query).one_or_none()
    if row is None:
        return True
    rest = max(SOONEST, REST * timedelta(milliseconds=row.took_ms))
    return bool(now - row.as_of >= rest)


def _best(
    connection: Connection, span: Span, by: Group, now: datetime, zone: ZoneInfo
) -> Sequence[tuple[str, dict[str, object]]]:
    """The first of every metric together."""
    found: dict[str, Usage] = {}
    for metric in Metric:
        start = span_start(span, now, zone)
        found |= dict(breakdown(connection, start, now, by, zone, KEPT, metric))
        if len(found) < KEPT:
            break  # these are all
    return [(name, asdict(usage)) for name, usage in found.items()]
