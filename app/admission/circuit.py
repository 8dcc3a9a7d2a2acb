"""Circuit breaker for Redis. While it is open one thread probes; all others fail immediately."""

import threading
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import RedisError

from app.clock import monotonic
from app.redis_faults import explain, is_passing

T = TypeVar("T")
REST_S = 1.0


class StoreAway(Exception):
    """Redis does not serve just now; calls wait, because only Redis knows the cap."""

    def __init__(self, retry_after_s: float, why: str = "Redis does not answer") -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s
        self.why = why


class Circuit:
    """Passes calls through until one fails; then, once a second, one call tries for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._is_trying = False
        self._why = "Redis does not answer"

    def call(self, function: Callable[[], T]) -> T:
        """Do it, or raise StoreAway: at once when it is known that nothing answers."""
        is_trial = self._begin()
        try:
            answer = function()
        except (RedisError, OSError) as error:
            if not is_passing(error):
                self._end(is_trial, away=False)
                raise  # an error in a script is ours, and asking again would not help
            self._why = explain(error)
            self._end(is_trial, away=True)
            raise StoreAway(REST_S, explain(error)) from error
        except BaseException:
            self._end(is_trial, away=False)
            raise
        self._end(is_trial, away=False)
        return answer

    def _begin(self) -> bool:
        with self._lock:
            left = self._away_until - monotonic()
            if left > 0 or self._is_trying:
                raise StoreAway(max(left, 0.1), self._why)
            self._is_trying = self._away_until > 0
            return self._is_trying

    def _end(self, is_trial: bool, *, away: bool) -> None:
        if not is_trial and not away:
            return
        with self._lock:
            self._away_until = monotonic() + REST_S if away else 0.0
            self._is_trying = False
