"""Keeping the leases of the runs that this process works on, from one thread for all of them.

A process that dies, hangs or is stopped stops beating, and within a lease its runs are free for others
(app/runs/rescue.py). A worker that comes back after that finds its writes refused.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.log import get_logger
from app.runs import leases
from app.runs.leases import Claim

log = get_logger(__name__)

BEATS_PER_LEASE = 3
RETRY_S = 1.0
"""After a failure: be ahead of the rescuers when the database is back."""


class Heartbeat:
    """The runs this process holds, and the thread that renews their leases."""

    def __init__(self, engine: Engine, lease: timedelta) -> None:
        self._engine = engine
        self._lease = lease
        self._lock = threading.Lock()
        self._held: set[Claim] = set()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    @property
    def held(self) -> int:
        """How many runs this process works on."""
        with self._lock:
            return len(self._held)

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Keep the lease of a run while the block works on it."""
        with self._lock:
            self._held.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(claim)

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)

    def _beat(self) -> None:
        wait_s = pause_s = self._lease.total_seconds() / BEATS_PER_LEASE
        while not self._ending.wait(wait_s):
            with self._lock:
                held = list(self._held)
            wait_s = pause_s
            try:
                if held:
                    with self._engine.begin() as connection:
                        leases.renew_all(connection, held, self._lease)
            except SQLAlchemyError as error:
                log.warning("heartbeat.failed", held=len(held), error=str(error).splitlines()[0])
                wait_s = RETRY_S
