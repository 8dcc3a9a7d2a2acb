"""How a worker follows Redis: back soon after it was away, and its events in batches."""

from functools import partial
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer
from kombu import Connection

from workers.alive import touch

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
