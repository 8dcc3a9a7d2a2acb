"""How a worker follows Redis: back soon after it was away, and its events in batches."""

from functools import partial
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer
from kombu import Connection

from app.clock import sleep
from app.log import get_logger
from app.redis_faults import explain
from workers.alive import touch

log = get_logger(__name__)

STEP_S, LONGEST_S = 1, 3
EVENTS_S = 0.5


class PromptConsumer(Consumer):
    """Celery's own waits up to 30 seconds between two tries, and sends each task's events at once. It has no
    setting for either.
    """

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, trying every few seconds."""
        conn.ensure_connection = partial(  # type: ignore[method-assign]
            conn.ensure_connection,
            interval_start=STEP_S,
            interval_step=STEP_S,
            interval_max=LONGEST_S,
            callback=touch,  # every second: waiting for Redis is being alive
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say in one line what Redis lacks, and try again in a second. Celery's own writes a traceback, and
        tries at once: a Redis that answers every command with an error would keep a core busy.
        """
        log.warning("broker.waits", why=explain(exc))
        try:
            self.connection.collect()  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001 (it is thrown away, whatever state it is in)
            log.debug("broker.not_collected")
        touch()
        sleep(STEP_S)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """Nothing: FlushEvents sends what has gathered."""


class FlushEvents(bootsteps.StartStopStep):
    """Sends the events of tasks for Flower twice a second, and whenever 24 are there.

    One by one they cost a task 0.4 ms of CPU, two thirds of what Celery takes for the task itself; in
    batches a tenth of that (docs/performance.md).
    """

    requires = ("celery.worker.components:Timer",)

    def start(self, worker: Any) -> None:
        """With the worker's own loop."""
        worker.timer.call_repeatedly(EVENTS_S, self._flush, (worker,), priority=10)

    def _flush(self, worker: Any) -> None:
        dispatcher = getattr(worker.consumer, "event_dispatcher", None)
        if dispatcher is not None and dispatcher.enabled:
            dispatcher.flush()
