"""The ledger's partitions: one for each day (UTC), made ahead, dropped when old and accounted for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.clock import sleep
from app.log import get_logger

log = get_logger(__name__)

AHEAD_DAYS = 7
LOCK_MS, TRIES, PAUSE_S = 300, 5, 1.0
PARENT = "ai_request_log"
REST = "ai_request_log_rest"
"""Takes what no day's partition takes, so that a call is never refused by its own ledger."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Result of a round: partitions made, and dropped."""

    made: int
    dropped: int

    def __str__(self) -> str:
        return f"{self.made} partitions made, {self.dropped} dropped"


def keep(engine: Engine, now: datetime, zone: ZoneInfo, keep_days: int) -> Kept:
    """Make the partitions of the days to come; drop those that are older than that and frozen.

    A partition goes only when every business day that it holds a part of was found equal to the ledger
    and frozen; the rollups stay. `keep_days` of 0 keeps everything.

    Each is a transaction of its own that gives way at once: it waits for locks for less time than
    PostgreSQL takes to find a deadlock, so that never a worker with a paid answer is the victim. The
    next round repeats what fails now; partitions are made a week ahead.
    """
    today = now.astimezone(UTC).date()
    with engine.connect() as connection:
        known = _days(connection)
        in_rest, settled = _days_in_rest(connection, today)
        frozen = connection.execute(text("select max(day) from paceline.usage_days")).scalar_one()
    ahead = {today + timedelta(days=n) for n in range(AHEAD_DAYS + 1)}
    missing = sorted((ahead - in_rest | settled) - known)
    made = [day for day in missing if _gently(engine, make_partition, day)]
    old = []
    if keep_days:
        # Days are frozen in order and without gaps, so the last one says it all.
        oldest = today - timedelta(days=keep_days)
        old = [
            day
            for day in sorted({*known, *made})
            if day < oldest and _last_business_day(day, zone) <= (frozen or date.min)
        ]
    dropped = [day for day in old if _gently(engine, _drop, day)]
    return Kept(len(made), len(dropped))


def _gently(engine: Engine, change: Callable[[Connection, date], None], day: date) -> bool:
    """Do it if nobody is in the way, in one of a few tries."""
    for _ in range(TRIES):
        try:
            with engine.begin() as connection:
                connection.execute(text(f"set local lock_timeout = '{LOCK_MS}ms'"))
                change(connection, day)
        except OperationalError as error:
            log.warning("ledger.in_use", error=str(error.orig))
            sleep(PAUSE_S)
        else:
            return True
    return False


def rows_in_rest(connection: Connection) -> int:
    """Calls that no day's partition took: none, unless nobody made partitions for a week."""
    return int(connection.execute(text(f"select count(*) from paceline.{REST}")).scalar_one())


def _days(connection: Connection) -> set[date]:
    query = text("""
      select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = to_regclass('paceline.ai_request_log')
    """)
    names = connection.execute(query).scalars()
    return {_day(name) for name in names if name != REST}


def _days_in_rest(connection: Connection, today: date) -> tuple[set[date], set[date]]:
    """The days that the rest holds calls of, and those that are over and have none under way: only these are
    sorted in, because a call that ends while its row moves would not find it.
    """
    query = text(f"""
      select (created_at at time zone 'UTC')::date, bool_or(status = 'in_flight')
      from paceline.{REST} group by 1
    """)
    rows = connection.execute(query).all()
    return {row[0] for row in rows}, {row[0] for row in rows if row[0] < today and not row[1]}


def make_partition(connection: Connection, day: date) -> None:
    """A day's partition, with what the rest had of it."""
    if day in _days(connection):
        return
    name, following = _name(day), day + timedelta(days=1)
    bounds = f"'{day} 00:00:00+00'", f"'{following} 00:00:00+00'"
    connection.execute(text(f"create table paceline.{name} (like paceline.{PARENT} including all)"))
    connection.execute(
        text(f"""
          with moved as (delete from paceline.{REST}
            where created_at >= {bounds[0]} and created_at < {bounds[1]} returning *)
          insert into paceline.{name} select * from moved
        """)
    )
    connection.execute(
        text(
            f"alter table paceline.{PARENT} attach partition paceline.{name} "
            f"for values from ({bounds[0]}) to ({bounds[1]})"
        )
    )


def _drop(connection: Connection, day: date) -> None:
    connection.execute(text(f"drop table if exists paceline.{_name(day)}"))


def _last_business_day(day: date, zone: ZoneInfo) -> date:
    """The last day of the business time zone that this UTC day overlaps."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)
    return end.astimezone(zone).date()


def _name(day: date) -> str:
    return f"{PARENT}_{day:%Y%m%d}"


def _day(name: str) -> date:
    digits = name.removeprefix(f"{PARENT}_")
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
