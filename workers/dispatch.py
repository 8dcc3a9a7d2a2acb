"""Telling workers that runs wait: the only place that publishes, always after commit."""

from collections.abc import Sequence
from uuid import UUID

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.errors import Unreachable
from app.redis_faults import explain
from app.runs.cycles import QueuedRun, queued_runs
from workers.celery import KEY_PREFIX, app
from workers.names import RUN
from workers.process import engine, services


def publish(run_ids: Sequence[UUID]) -> None:
    """Publish a message for each of these runs."""
    with engine().connect() as connection:
        runs = queued_runs(connection, list(run_ids))
    try:
        publish_runs(runs)
    except (OperationalError, RedisError) as error:
        raise Unreachable(
            f"Redis did not take the message ({explain(error)}): start it, or correct REDIS_URL"
        ) from None


def backlog() -> int:
    """Messages that wait in Redis for a worker.

    Asked of Redis itself: kombu's passive declaration raises for a queue that is merely empty after
    a FLUSHALL took its binding away.
    """
    redis = services().redis
    return sum(int(redis.llen(f"{KEY_PREFIX}{name}")) for name in ("adhoc", "cycle"))


def publish_runs(runs: Sequence[QueuedRun]) -> None:
    """One message per run, in one pipelined batch. The message's id is the run's.

    A batch is never replayed behind our back: if it fails half-way, some messages went out twice or
    not at all, which the claim and the reconciliation of queued runs make good.
    """
    if not runs:
        return
    with app.producer_or_acquire(None) as producer, producer.batch():
        for run in runs:
            cycle = run.cycle_at.isoformat() if run.cycle_at else None
            options = {"queue": "cycle" if cycle else "adhoc"} | (run.options or {})
            app.send_task(
                RUN,
                (run.handle, cycle),
                task_id=str(run.id),
                producer=producer,
                retry=False,
                is_stored=True,
                **options,
            )
