"""Where a process holds back new runs while enough of its calls wait for their time.

Without it every idle thread takes a message, claims the run, hears that the line is longer than the
horizon and puts the run back, as fast as the machine can: at 50 calls/s and twice that demand most of
the fleet's CPU went there, in bursts that made calls late at the gateway. Held here, a run is still
`queued`, no row is touched, and the backlog stays where it costs nothing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.clock import monotonic, sleep

LEAD_S = 1.0
"""Enough booked ahead that the line never runs dry while the next run is claimed and read."""
WIDTH = 2
"""Runs of one process on their way to their first answer; more would only compete for the CPU."""
LONGEST_S = 5.0
"""For how long one answer may keep the turnstile shut; then a run passes and asks again."""
POLL_S = 0.5
"""How soon those who wait notice that the process is told to end."""


class Stopping(Exception):
    """The process is told to end; this run is for another one."""


def pause(seconds: float, stopping: threading.Event | None) -> None:
    """Sleep; raises Stopping as soon as the process is told to end."""
    if stopping is None:
        sleep(seconds)
    elif seconds > 0 and stopping.wait(seconds):
        raise Stopping


class Turnstile:
    """Lets the runs of one process pass, a few at a time, when the line they would join is short."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(WIDTH)
        self._line_until = 0.0
        self._passing = threading.local()

    @contextmanager
    def passing(self, stopping: threading.Event) -> Iterator[None]:
        """Wait for a place; it is given on at this thread's first answer, or at the end.

        Raises Stopping when the process is told to end before that.
        """
        while not self._places.acquire(timeout=POLL_S):
            if stopping.is_set():
                raise Stopping
        self._passing.has_place = True
        try:
            while (wait_s := self._line_until - LEAD_S - monotonic()) > 0:
                if stopping.wait(min(wait_s, POLL_S)):
                    raise Stopping
            yield
        finally:
            self._give_place_on()

    def answered(self, wait_s: float) -> None:
        """Admission told this thread to wait so long: the line is that long."""
        self._line_until = monotonic() + min(wait_s, LONGEST_S)
        self._give_place_on()

    def _give_place_on(self) -> None:
        if getattr(self._passing, "has_place", False):
            self._passing.has_place = False
            self._places.release()
