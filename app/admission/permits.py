"""Calls per second, shared by every process: one round trip books the next free moment.

The bucket holds permits (never called tokens: those are the LLM's). Redis down means that calls
wait; there is no local bucket to fall back to, because N of them would be N times the cap.
"""

import math
from importlib.resources import files

from redis import Redis

from app.settings import LimitSettings

KEY = "{paceline}:permits"


class Permits:
    """Hands out permits."""

    def __init__(self, redis: Redis, limits: LimitSettings) -> None:
        source = (files("app.admission") / "lua" / "permit.lua").read_text()
        self._script = redis.register_script(source)
        # Rounded up: a rate that is not a whole number of microseconds is kept a hair under.
        self._arguments = [math.ceil(1e6 / limits.rate), limits.burst]

    def take(self) -> float:
        """Book one permit; returns the seconds to wait before using it. Raises RedisError."""
        wait_us: int = self._script(keys=[KEY], args=self._arguments)
        return wait_us / 1e6
