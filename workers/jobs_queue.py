"""Periodic jobs that were sent and not begun: one message of each may wait, no more.

Beat sends two messages a second. While no worker takes them they would fill Redis (440 MB in a weekend), and
then workers would drop expired ones for minutes before they come to a slice.
"""

from celery.signals import task_prerun
from redis.exceptions import RedisError

from workers.names import RUN
from workers.process import services

QUEUE = "paceline:maintenance"
SENT = "paceline:sent:"
FORGOTTEN_S = 600
"""After so long a message counts as lost, for example with a FLUSHALL, and the job is sent again."""


def is_waiting(task: str) -> bool:
    """Whether the job was sent and no worker has begun it. False when Redis cannot say."""
    try:
        pipeline = services().redis.pipeline(transaction=False)
        pipeline.exists(SENT + task)
        pipeline.llen(QUEUE)
        was_sent, waiting = pipeline.execute()
    except RedisError:
        return False
    return bool(was_sent and waiting)


def note_sent(task: str) -> None:
    """Note that the job waits now."""
    try:
        services().redis.set(SENT + task, 1, ex=FORGOTTEN_S)
    except RedisError:
        return  # then the next one is sent, too


@task_prerun.connect
def _note_begun(task: object = None, **_: object) -> None:
    name = getattr(task, "name", "")
    if name == RUN:  # not a periodic job, and the hot path
        return
    try:
        services().redis.delete(SENT + name)
    except RedisError:
        return
