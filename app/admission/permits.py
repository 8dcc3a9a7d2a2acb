"""Calls per second, shared by every process: one round trip books the next free moment.

The bucket holds permits (never called tokens: those are the LLM's). Redis down means that calls
wait; there is no local bucket to fall back to, because N of them would be N times the cap.
"""

import math
from hashlib import sha256
from importlib.resources import files

from redis import Redis

from app.settings import LimitSettings

OWED = "{paceline}:permits"
REFUSED_KEY = "{paceline}:refused_key"


class KeyKnownBad(Exception):
    """The gateway refused this very key before; calling again would not help."""


class Permits:
    """Hands out permits."""

    def __init__(
        self, redis: Redis, limits: LimitSettings, gateway_url: str, key: str | None
    ) -> None:
        source = (files("app.admission") / "lua" / "permit.lua").read_text()
        self._redis = redis
        self._script = redis.register_script(source)
        # Of the key only a fingerprint is stored, and another key or gateway is another one: putting
        # the right key into the settings is all it takes to go on.
        self._fingerprint = sha256(f"{gateway_url} {key}".encode()).hexdigest()[:16]
        # Rounded up: a rate that is not a whole number of microseconds is kept a hair under.
        self._arguments: list[int | str] = [
            math.ceil(1e6 / limits.rate),
            limits.burst,
            self._fingerprint,
        ]

    def take(self) -> float:
        """Book one permit; returns the seconds to wait before using it.

        Raises KeyKnownBad once the gateway has refused the key, and RedisError.
        """
        wait_us: int = self._script(keys=[OWED, REFUSED_KEY], args=self._arguments)
        if wait_us < 0:
            raise KeyKnownBad
        return wait_us / 1e6

    def refuse_key(self) -> None:
        """Remember, for the whole fleet, that the gateway refused the key."""
        self._redis.set(REFUSED_KEY, self._fingerprint)
