"""Old rows are deleted: runs, votes, comments, posts, sign-ins that are over, incidents and alerts that are
told.

Each table has its own time. A round deletes some rows at a time, each time in a transaction of its own that
waits for nobody, so no worker feels it. A text that a person hid stays, with all that hangs on it; the change
log stays. Calls go by partition, when their sums are proved (app.usage.partitions).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, func, inspect, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from app.clock import monotonic
from app.db import Base
from app.log import get_logger
from app.models import (
    Alert,
    Comment,
    ContentState,
    Incident,
    Invitation,
    Mention,
    Post,
    Run,
    Session,
    SignInFailure,
    Vote,
)
from app.settings import KeepSettings, Settings

log = get_logger(__name__)

BATCH = 1_000
LOCK_MS = 300
ROUND_S = 30.0
"""A round ends then, whatever is left: the next one goes on."""
OVER = timedelta(days=1)
"""How long what has ended by itself (sessions, invitations) is kept."""
TOLD_DAYS = 365
"""How long incidents and alerts are kept."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of a table go when `at` is so long ago, and `also` holds. `days` of 0 keeps them for ever.
    `by_id`: they are found by their ids, which sort by time, where `at` has no index.
    """

    table: type[Base]
    at: "InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None]"
    days: float
    also: tuple[ColumnElement[bool], ...] = ()
    by_id: bool = False


def rules(keep: KeepSettings) -> Sequence[Rule]:
    """Tables with their age limits; in this order, because a post goes after its comments."""
    answered = exists().where(Comment.post_id == Post.id)
    return (
        Rule(Vote, Vote.created_at, keep.votes_days, by_id=True),
        Rule(Comment, Comment.created_at, keep.content_days, (Comment.state != ContentState.HIDDEN,)),
        Rule(Post, Post.created_at, keep.content_days, (Post.state != ContentState.HIDDEN, ~answered)),
        Rule(Mention, Mention.created_at, keep.content_days),
        Rule(Run, Run.finished_at, keep.runs_days, (func.coalesce(Run.is_continued, True),)),
        Rule(Session, Session.expires_at, OVER.days),
        Rule(Invitation, Invitation.expires_at, OVER.days),
        Rule(SignInFailure, SignInFailure.last_at, OVER.days),
        Rule(Incident, Incident.closed_at, TOLD_DAYS),
        Rule(Alert, Alert.created_at, TOLD_DAYS),
    )


def forget(engine: Engine, keep: KeepSettings, now: datetime, seconds: float = ROUND_S) -> dict[str, int]:
    """Do one round; return how many rows went, by table."""
    ends = monotonic() + seconds
    gone: dict[str, int] = {}
    for rule in rules(keep):
        while rule.days and monotonic() < ends:
            count = _some(engine, rule, now)
            name = rule.table.__tablename__
            gone[name] = gone.get(name, 0) + count
            if count < BATCH:
                break
    return {name: count for name, count in gone.items() if count}


def _some(engine: Engine, rule: Rule, now: datetime) -> int:
    """A batch of a table's old rows; none when somebody is in the way."""
    key = inspect(rule.table).primary_key[0]
    before = now - timedelta(days=rule.days)
    order: ColumnElement[Any] | Any = rule.at
    also = rule.also
    if rule.by_id:
        order, also = key, (*also, key < first_id(before))
    old = (
        select(key)
        .where(rule.at < before, *also)
        .order_by(order)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    try:
        with engine.begin() as connection:
            connection.execute(text(f"set local lock_timeout = '{LOCK_MS}ms'"))
            return connection.execute(delete(rule.table).where(key.in_(old))).rowcount
    except OperationalError as error:
        log.warning("retention.in_use", table=rule.table.__tablename__, error=str(error.orig))
        return 0


def first_id(at: datetime) -> UUID:
    """The least id that the program can have made at that moment: the first 48 bits are its milliseconds."""
    return UUID(int=int(at.timestamp() * 1_000) << 80)


# How large it is, and how large it becomes

GROWS = {
    "runs": ("finished_at", "finished_at"),
    "posts": ("created_at", "created_at"),
    "comments": ("created_at", "created_at"),
    "votes": ("created_at", "id"),
    "ai_request_log": ("created_at", "created_at"),
    "outbox": ("created_at", "created_at"),
    "deliveries": ("next_at", "id"),
    "audit_log": ("at", "id"),
}
"""Table -> when a row was written, and by which indexed column the oldest is found."""


@dataclass(frozen=True, slots=True)
class Size:
    """One table with its indexes. `per_day`: bytes, as an average over what is there; None: less than an
    hour is there. `ends_at`: bytes when its retention is reached; None: it grows for ever, or nobody knows.
    """

    table: str
    size: int
    rows: int
    per_day: float | None
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes: now, more per day, and where it ends when every retention is reached. `for_ever`: bytes a day of
    the tables that have none, beyond that. `full_in_days`: when the disk that was named is full; None: never,
    or nobody named one.
    """

    size: int
    per_day: float
    ends_at: float | None
    for_ever: float
    full_in_days: float | None


def forecast(found: Sequence[Size], keep: KeepSettings) -> Forecast:
    """Totals of all tables. Those that have reached their retention grow no more."""
    size = sum(one.size for one in found)
    growing = [one for one in found if one.per_day and (one.ends_at is None or one.ends_at > one.size)]
    per_day = sum(one.per_day or 0.0 for one in growing)
    for_ever = sum(one.per_day or 0.0 for one in growing if one.ends_at is None)
    is_known = all(one.per_day is not None or not one.rows for one in found)
    ends_at = sum(max(one.size, one.ends_at or 0.0) for one in found) if is_known else None
    full = _full_in_days(size, growing, keep.disk_gb * 1e9) if keep.disk_gb else None
    return Forecast(size, per_day, ends_at, for_ever, full)


def _full_in_days(size: float, growing: Sequence[Size], disk: float) -> float | None:
    """Walk from the day on which one table stops to grow to the next."""
    if size >= disk:
        return 0.0
    day = 0.0
    rates = [(one.per_day or 0.0, one.ends_at, one.size) for one in growing]
    stops = sorted(((end - now) / rate if end is not None else inf, rate) for rate, end, now in rates)
    rate = sum(each for _, each in stops)
    for stop, each in stops:
        if size + rate * (stop - day) >= disk:
            return day + (disk - size) / rate
        size, day, rate = size + rate * (stop - day), stop, rate - each
    return None


def sizes(connection: Connection, settings: Settings, now: datetime) -> list[Size]:
    """The tables that grow, the largest first, in one query."""
    keep = settings.kept
    days = {
        "votes": keep.votes_days,
        "comments": keep.content_days,
        "posts": keep.content_days,
        "runs": keep.runs_days,
        "ai_request_log": keep.calls_days,
        "outbox": settings.app.keep_days,
        "deliveries": settings.app.keep_days,
    }
    found = []
    for name, size, rows, age_days in connection.execute(text(_SIZES), {"now": now}):
        per_day = size / float(age_days) if age_days and age_days > 1 / 24 else None
        kept = days.get(name)
        found.append(Size(name, size, rows, per_day, per_day * kept if per_day and kept else None))
    return sorted(found, key=lambda one: -one.size)


_SIZES = " union all ".join(
    f"""
    select '{name}', sum(pg_total_relation_size(c.oid))::bigint, greatest(sum(c.reltuples), 0)::bigint,
      (select extract(epoch from cast(:now as timestamptz) - {at}) / 86400 from paceline.{name}
       where {at} is not null order by {order} limit 1)
    from pg_class c
    where c.oid = 'paceline.{name}'::regclass
      or c.oid in (select inhrelid from pg_inherits where inhparent = 'paceline.{name}'::regclass)
    """
    for name, (at, order) in GROWS.items()
)


def say_bytes(size: float) -> str:
    """In the unit that fits, powers of a thousand: 1.2 GB."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= least:
            return f"{size / least:,.1f} {unit}"
    return f"{size:.0f} B"
