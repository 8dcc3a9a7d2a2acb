"""Telling workers that runs wait: the only place that publishes, always after commit."""

from collections.abc import Sequence
from uuid import UUID

from app.runs.cycles import QueuedRun, queued_runs
from workers.celery import app
from workers.process import services


def publish(run_ids: Sequence[UUID]) -> None:
    """Publish a message for each of these runs."""
    with services().engine.connect() as connection:
        runs = queued_runs(connection, list(run_ids))
    publish_runs(runs)


def publish_runs(runs: Sequence[QueuedRun]) -> None:
    """One message per run, in one pipelined batch. The message's id is the run's.

    A batch is never replayed behind our back: if it fails half-way, some messages went out twice or
    not at all, which the claim and the reconciliation of queued runs make good.
    """
    if not runs:
        return
    task = app.tasks["agents.run"]
    with app.producer_or_acquire(None) as producer, producer.batch():
        for run in runs:
            cycle = run.cycle_at.isoformat() if run.cycle_at else None
            task.apply_async(
                (run.handle, cycle),
                task_id=str(run.id),
                queue="cycle" if cycle else "adhoc",
                producer=producer,
                retry=False,
            )
