"""Keeping a distance between requests to a source, by all processes together."""

from threading import Event

from redis import Redis

from app.admission.turnstile import pause
from app.clock import monotonic

PATIENCE_S = 30.0


def wait_for_turn(redis: Redis, name: str, interval_s: float, stopping: Event | None = None) -> bool:
    """Wait until nobody asked this source for `interval_s`; False when that did not come in time. Raises
    Stopping when the process is told to end.

    The process that sets the key has the turn; Redis takes it away when the distance is kept.
    """
    key = f"{{paceline}}:pace:{name}"
    deadline = monotonic() + PATIENCE_S
    while not redis.set(key, 1, nx=True, px=max(1, int(interval_s * 1000))):
        left_ms = int(redis.pttl(key))
        if monotonic() + left_ms / 1000 > deadline:
            return False
        pause(max(0.005, left_ms / 1000), stopping)
    return True
