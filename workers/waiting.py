"""Waiting for runs to end: one query at a time for all who wait in this process, however many they are."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from app.clock import sleep
from app.log import get_logger
from app.runs.report import RunReport
from app.sql_faults import describe, is_passing

log = get_logger(__name__)

EVERY_S = 0.2
Arrivals = SimpleQueue[RunReport | Exception]


class Waiting:
    """Waiting `get`s, by run. A thread looks for all of them, and ends when nobody waits."""

    def __init__(self, find_ended: Callable[[Collection[UUID]], list[RunReport]]) -> None:
        self._find_ended = find_ended
        self._lock = threading.Lock()
        self._queues: dict[UUID, list[Arrivals]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting_for(self, run_ids: Collection[UUID]) -> Iterator[Arrivals]:
        """A queue into which each of these runs comes when it has ended; an error comes to all who wait."""
        arrivals: Arrivals = SimpleQueue()
        with self._lock:
            for run_id in run_ids:
                self._queues.setdefault(run_id, []).append(arrivals)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="results", daemon=True)
                self._thread.start()
        try:
            yield arrivals
        finally:
            with self._lock:
                for run_id in run_ids:
                    self._leave(run_id, arrivals)

    def _leave(self, run_id: UUID, arrivals: Arrivals) -> None:
        queues = self._queues.get(run_id, [])
        if arrivals in queues:
            queues.remove(arrivals)
        if not queues:
            self._queues.pop(run_id, None)

    def _look(self) -> None:
        while True:
            with self._lock:
                wanted = list(self._queues)
                if not wanted:
                    self._thread = None
                    return
            try:
                found: list[RunReport | Exception] = list(self._find_ended(wanted))
            except SQLAlchemyError as error:
                if is_passing(error):  # the database comes back, or the caller's time runs out
                    log.warning("results.wait", why=describe(error))
                    sleep(1)
                    continue
                found = [error]
            except Exception as error:  # noqa: BLE001 (else they would wait for ever)
                found = [error]
            with self._lock:
                for one in found:
                    self._hand_out(one)
            sleep(EVERY_S)

    def _hand_out(self, one: RunReport | Exception) -> None:
        if isinstance(one, Exception):
            queues = [queue for waiting in self._queues.values() for queue in waiting]
            self._queues.clear()
        else:
            queues = self._queues.pop(one.id, [])
        for queue in queues:
            queue.put(one)
