"""The only module that reads the time. Everything below an entry point takes `now` as an argument."""

import time
from datetime import UTC, datetime, timedelta


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
