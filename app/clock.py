"""The only module that reads the time. Everything below an entry point takes `now` as an argument."""

import time
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as time_of_day


def utcnow() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back; for durations only."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Sleep; nothing for zero or less."""
    if seconds > 0:
        time.sleep(seconds)


def cycle_start(now: datetime, period: timedelta) -> datetime:
    """The start of the cycle that holds `now`: a whole number of periods since the epoch."""
    period_us = period // timedelta(microseconds=1)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    since_us = (now - epoch) // timedelta(microseconds=1)
    return epoch + timedelta(microseconds=since_us - since_us % period_us)


def day_window(now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the calendar day in `zone` that holds `now`; 23 to 25 hours long."""
    day = now.astimezone(zone).date()
    return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)


def month_window(now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the calendar month in `zone` that holds `now`."""
    first = now.astimezone(zone).date().replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return _midnight(first, zone), _midnight(following, zone)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time_of_day.min, tzinfo=zone).astimezone(UTC)
