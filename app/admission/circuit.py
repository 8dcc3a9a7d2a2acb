"""Not asking a server that does not answer: one thread at a time tries, the others hear at once."""

import threading
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.clock import monotonic

T = TypeVar("T")
REST_S = 1.0


class StoreAway(Exception):
    """Redis did not answer just now; calls wait, because only it knows the cap."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Redis is away, again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Circuit:
    """Passes calls through until one fails; then, once a second, one call tries for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._is_trying = False

    def call(self, function: Callable[[], T]) -> T:
        """Do it, or raise StoreAway: at once when it is known that nothing answers."""
        is_trial = self._begin()
        try:
            answer = function()
        except (RedisError, OSError) as error:
            if isinstance(error, RedisError) and not _is_away(error):
                self._end(is_trial, away=False)
                raise  # an error in a script is ours, and asking again would not help
            self._end(is_trial, away=True)
            raise StoreAway(REST_S) from error
        except BaseException:
            self._end(is_trial, away=False)
            raise
        self._end(is_trial, away=False)
        return answer

    def _begin(self) -> bool:
        with self._lock:
            left = self._away_until - monotonic()
            if left > 0 or self._is_trying:
                raise StoreAway(max(left, 0.1))
            self._is_trying = self._away_until > 0
            return self._is_trying

    def _end(self, is_trial: bool, *, away: bool) -> None:
        if not is_trial and not away:
            return
        with self._lock:
            self._away_until = monotonic() + REST_S if away else 0.0
            self._is_trying = False


def _is_away(error: RedisError) -> bool:
    """Down, unreachable, slow, loading its data, full or demoted: all that passes."""
    if isinstance(error, RedisConnectionError) or "Timeout" in type(error).__name__:
        return True
    return str(error).startswith(
        ("LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "BUSY")
    ) or type(error).__name__ in ("ReadOnlyError", "BusyLoadingError", "OutOfMemoryError")
