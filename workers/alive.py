"""A file that a worker, or beat, touches from its own loop, for health checks that need no broker.

`celery inspect ping` loads the whole program for every check, ends busy workers for nothing, and all of
them at once when Redis is away. The age of a file says the same: the loop goes round.
"""

import os
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from celery import beat, bootsteps, platforms
from celery.signals import beat_init
from celery.worker import state
from redis.exceptions import RedisError

from app.clock import utcnow
from app.log import get_logger
from app.redis_faults import explain
from app.runs import workers
from app.runs.asked import asked_by
from app.runs.workers import Worker
from app.settings import get_settings
from workers import jobs_queue
from workers.names import RUN
from workers.process import services
from workers.schedule import CLOCK_SLACK_S

log = get_logger(__name__)

EVERY_S = 5.0


def touch() -> None:
    """Say that the loop went round, if there is a file to say it in."""
    if file := get_settings().worker.heartbeat_file:
        Path(file).touch()


class Alive(bootsteps.StartStopStep):
    """Touches the file and tells what the worker has in hand, from the worker's timer; while Redis is away,
    workers.consumer touches the file.
    """

    requires = ("celery.worker.components:Timer",)

    def start(self, worker: Any) -> None:
        """With the worker's own loop."""
        touch()
        worker.timer.call_repeatedly(EVERY_S, touch, priority=10)
        self._started_at = utcnow()
        worker.timer.call_repeatedly(EVERY_S, self._report, (worker,), priority=10)

    def _report(self, worker: Any) -> None:
        held = services().heartbeat.held
        me = Worker(
            name=worker.hostname,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("paceline"),
            started_at=self._started_at,
            seen_at=utcnow(),
            in_hand=held,
            done=max(0, state.total_count.get(RUN, 0) - held),
            asked=asked_by(get_settings(), services().admission.key, utcnow()),
        )
        try:
            workers.report(services().redis, me)
        except RedisError as error:
            log.warning("worker.not_reported", why=explain(error))

    def stop(self, worker: Any) -> None:
        """It ends in order, so nobody needs to miss it."""
        with suppress(RedisError):
            workers.leave(services().redis, worker.hostname)


_told_to_end = threading.Event()


@beat_init.connect
def _end_between_two_turns(**_: object) -> None:
    """Celery's handler raises SystemExit wherever beat is, and what it was calling may swallow it: then beat
    goes on asleep. Ours is raised between two turns, a second later at most.
    """
    if threading.current_thread() is threading.main_thread():  # else it is a part of a worker
        end = lambda *_: _told_to_end.set()  # noqa: E731
        platforms.signals.update(SIGTERM=end, SIGINT=end)


class Scheduler(beat.Scheduler):
    """Celery's own, which keeps nothing on disk. It touches the file at every turn of its loop, notices a
    clock that went back, and sends no job whose predecessor still waits.
    """

    _seen = datetime(2000, 1, 1, tzinfo=UTC)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """One turn, a second at most."""
        if _told_to_end.is_set():
            raise SystemExit
        touch()
        now = utcnow()
        if now < self._seen - timedelta(seconds=CLOCK_SLACK_S):
            log.warning("beat.clock_went_back", seconds=(self._seen - now).total_seconds())
            self._heap = None  # it holds moments of the clock as it was
        self._seen = now
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a job, unless the one before it still waits: a weekend without workers must not pile up."""
        if jobs_queue.is_waiting(entry.task):
            log.debug("beat.job_still_waits", task=entry.task)
            return None
        found = super().apply_async(entry, *args, **kwargs)
        jobs_queue.note_sent(entry.task)
        return found
