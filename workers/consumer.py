"""A worker's connection to Redis that comes back soon, however long Redis was away."""

from functools import partial

from celery.worker.consumer import Consumer
from kombu import Connection

from workers.alive import touch

STEP_S, LONGEST_S = 1, 3


class PromptConsumer(Consumer):
    """Celery's own waits up to 30 seconds between two tries, and has no setting for it."""

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
