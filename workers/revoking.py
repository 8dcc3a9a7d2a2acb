"""`revoke`, from a shell, `celery control` or Flower's button: it ends the run, not only its message.

Celery's own keeps revoked ids in each worker's memory. So the run would stay queued, be published again, and
run after a restart of the workers.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from celery.signals import task_revoked
from celery.utils.functional import maybe_list
from celery.worker.control import control_command
from celery.worker.control import revoke as forget  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from app.audit_log import Actor, ActorKind, acting
from app.log import get_logger
from app.runs import stopping
from app.sql_faults import describe
from workers.names import RUN
from workers.process import engine

log = get_logger(__name__)

REASON = "revoked by celery control, Flower or a shell"
CELERY = "celery"
"""Name of the person who revoked, where Celery's protocol does not say."""


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
    """End the runs with these ids, also those that are queued or snoozed. One that is going on stops before
    its next call. `terminate` ends nothing sooner: workers are threads.
    """
    ids = [str(one) for one in maybe_list(task_id) or []]
    _cancel_quietly(ids)
    return forget(state, ids, terminate=False, signal=signal, **kwargs)


def cancel(ids: Iterable[str], actor: str) -> list[UUID]:
    """Skip the open runs among these task ids, audited; returns them. Raises SQLAlchemyError."""
    runs = [run_id for run_id in map(_uuid, ids) if run_id]
    if not runs:
        return []
    with acting(Actor(ActorKind.CELERY)), engine().begin() as connection:
        return stopping.cancel(connection, runs, actor, REASON, REASON)


def _cancel_quietly(ids: Iterable[str]) -> None:
    try:
        cancel(ids, CELERY)
    except SQLAlchemyError as error:
        log.error("run.not_revoked", ids=list(ids), error=describe(error))  # noqa: TRY400


@task_revoked.connect
def _end_run(request: Any = None, expired: bool = False, **_: object) -> None:
    """A message that is dropped because its id was revoked: its run ends, too."""
    if request is not None and not expired and getattr(request, "task_name", "") in (RUN, ""):
        _cancel_quietly([str(request.id)])


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
