"""The ledger's partitions: one for each day (UTC), made ahead, dropped when old and accounted for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

AHEAD_DAYS = 7
PARENT = "ai_request_log"
REST = "ai_request_log_rest"
"""Takes what no day's partition takes, so that a call is never refused by its own ledger."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a round did: partitions made, and dropped."""

    made: int
    dropped: int

    def __str__(self) -> str:
        return f"{self.made} partitions made, {self.dropped} dropped"


def keep(connection: Connection, now: datetime, zone: ZoneInfo, keep_days: int) -> Kept:
    """Make the partitions of the days to come; drop those that are older than that and frozen.

    A partition goes only when every business day that it holds a part of was found equal to the ledger
    and frozen; the rollups stay. `keep_days` of 0 keeps everything.
    """
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.ledger.keep'))"))
    connection.execute(text("set local lock_timeout = '5s'"))  # calls must not queue up behind this
    known = _days(connection)
    today = now.astimezone(UTC).date()
    wanted = {today + timedelta(days=n) for n in range(AHEAD_DAYS + 1)} | _days_in_rest(connection)
    missing = sorted(wanted - known)
    for day in missing:
        _make(connection, day)
    old = []
    if keep_days:
        # Days are frozen in order and without gaps, so the last one says it all.
        query = text("select max(day) from paceline.usage_days")
        frozen = connection.execute(query).scalar_one() or date.min
        oldest = today - timedelta(days=keep_days)
        old = [
            day
            for day in sorted(known | wanted)
            if day < oldest and _last_business_day(day, zone) <= frozen
        ]
    for day in old:
        connection.execute(text(f"drop table paceline.{_name(day)}"))
    return Kept(len(missing), len(old))


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


def _days_in_rest(connection: Connection) -> set[date]:
    query = text(f"select distinct (created_at at time zone 'UTC')::date from paceline.{REST}")
    return set(connection.execute(query).scalars())


def _make(connection: Connection, day: date) -> None:
    """A day's partition, with what the rest had of it."""
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


def _last_business_day(day: date, zone: ZoneInfo) -> date:
    """The last day of the business time zone that this UTC day overlaps."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)
    return end.astimezone(zone).date()


def _name(day: date) -> str:
    return f"{PARENT}_{day:%Y%m%d}"


def _day(name: str) -> date:
    digits = name.removeprefix(f"{PARENT}_")
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
