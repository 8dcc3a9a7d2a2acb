"""The Lua scripts, loaded as package data, and the keys they work on."""

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from zoneinfo import ZoneInfo

from redis import Redis
from redis.commands.core import Script

from app.clock import day_window, month_window

FLEET = tuple(f"{{paceline}}:{name}" for name in ("fleet", "reserved", "expiry", "movable", "free"))
"""S, R, X, W, F. One hash tag, so that a Redis Cluster keeps them together."""


def source(name: str) -> str:
    """A script's text, with what the scripts share in front."""
    folder = files("app.admission") / "lua"
    return (folder / "_shared.lua").read_text() + (folder / f"{name}.lua").read_text()


def load(redis: Redis, name: str) -> Script:
    """A script that is sent by its digest, and in full when the server has forgotten it."""
    return redis.register_script(source(name))


def alone(redis: Redis, name: str) -> Script:
    """The same for a script that works on single counters, without what the others share."""
    return redis.register_script((files("app.admission") / "lua" / f"{name}.lua").read_text())


@dataclass(frozen=True, slots=True)
class Windows:
    """The day and month that a moment belongs to, in the business time zone."""

    day: str
    day_start: datetime
    day_left_us: int
    month_start: datetime
    month_left_us: int

    @property
    def keys(self) -> tuple[str, str, str]:
        """Q, D, M: the full date is in the name, so nothing is ever reset."""
        day, month = self.day, self.day[:7]
        return (f"{{paceline}}:quota:{day}", f"{{paceline}}:spend:{day}", f"{{paceline}}:spend:{month}")


def windows(now: datetime, zone: ZoneInfo) -> Windows:
    """The windows that hold `now`."""
    start, end = day_window(now, zone)
    month_start, month_stop = month_window(now, zone)
    return Windows(
        day=f"{start.astimezone(zone):%Y-%m-%d}",
        day_start=start,
        day_left_us=int((end - now).total_seconds() * 1e6),
        month_start=month_start,
        month_left_us=int((month_stop - now).total_seconds() * 1e6),
    )
