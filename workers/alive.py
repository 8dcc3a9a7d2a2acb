"""A file that a worker, or beat, touches from its own loop, for health checks that need no broker.

`celery inspect ping` loads the whole program for every check, ends busy workers for nothing, and all of
them at once when Redis is away. The age of a file says the same: the loop goes round.
"""

from pathlib import Path
from typing import Any

from celery import beat, bootsteps

from app.settings import get_settings

EVERY_S = 5.0


def touch() -> None:
    """Say that the loop went round, if there is a file to say it in."""
    if file := get_settings().worker.heartbeat_file:
        Path(file).touch()


class Alive(bootsteps.StartStopStep):
    """Touches the file from the worker's timer; while Redis is away, workers.consumer does it."""

    requires = ("celery.worker.components:Timer",)

    def start(self, worker: Any) -> None:
        """With the worker's own loop."""
        touch()
        worker.timer.call_repeatedly(EVERY_S, touch, priority=10)


class Scheduler(beat.Scheduler):
    """Celery's own, which keeps nothing on disk, and touches the file at every turn of its loop."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """One turn, a second at most."""
        touch()
        return super().tick(*args, **kwargs)
