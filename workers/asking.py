"""`run_agent.delay("ada")` and its like: the run is stored, then workers are told.

So a Redis that loses its data loses no run, a handle that is not there is an error at once, and a run that
waits for its time is a row that `status`, `explain` and the pages show.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Task
from celery.canvas import maybe_signature
from celery.result import AsyncResult
from celery.utils.functional import maybe_list
from celery.utils.time import maybe_make_aware
from kombu import Queue
from kombu.utils.json import dumps
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from app.clock import utcnow
from app.errors import ConfigError, RunFailed, Unreachable
from app.log import get_logger
from app.runs import adhoc
from app.runs.adhoc import Wanted
from app.sql_faults import explain
from workers import results
from workers.process import engine

log = get_logger(__name__)

KEPT = ("queue", "group_id", "group_index", "root_id", "parent_id", *adhoc.FOLLOWS)
"""Return the values that a run's message carries whenever it is published. Other options of `apply_async`
change nothing here: a run has its own retries, deadlines and order.
"""


class RunTask(Task):  # type: ignore[type-arg]
    """The task of a run, as one asks for it from a shell, a canvas or another program."""

    abstract = True
    ignore_result = False
    throws = (RunFailed,)

    def apply_async(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Store a run of the agent and tell the workers. Raises NotFound for an unknown agent and Unreachable
        when PostgreSQL is away; when only Redis is, the run begins when it is back.
        """
        if self.app.conf.task_always_eager:
            return super().apply_async(tuple(args or ()), dict(kwargs or {}), task_id, **options)
        now = utcnow()
        wanted = Wanted(
            id=_run_id(task_id),
            who=agent_of(args, kwargs),
            due_at=_moment(eta if countdown is None else countdown, now),
            expires_at=_moment(expires, now),
            options=_kept(self.app, options),
        )
        if wanted.expires_at is not None and wanted.expires_at <= (wanted.due_at or now):
            raise ConfigError("it would expire before it begins: give a later `expires`")
        try:
            with engine().begin() as connection:
                may_begin = adhoc.store_run(connection, wanted, now)
        except SQLAlchemyError as error:
            raise Unreachable(f"the run was not stored: {explain(error)[0]}") from error
        if may_begin:
            self._publish(wanted.id)
        return self.AsyncResult(str(wanted.id))

    def _publish(self, run_id: UUID) -> None:
        from workers.dispatch import publish  # noqa: PLC0415 (it needs the Celery app, which needs this class)

        try:
            publish([run_id])
        except (Unreachable, SQLAlchemyError) as why:  # stored all the same
            log.warning("run.stored_and_not_published", run_id=str(run_id), why=str(why))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Celery began the following tasks just now."""
        results.note_continued(self.request)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Celery ended the following tasks just now."""
        results.note_continued(self.request)


def agent_of(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> str:
    """The agent in a call's arguments. In a chain or a chord, what came before returned comes first: a turn
    does not depend on it, so it is left out.
    """
    named = dict(kwargs or {}).get("agent")
    given = [named] if named is not None else [one for one in args or () if one is not None][-1:]
    if not given or not isinstance(given[0], str | UUID) or not str(given[0]).strip():
        raise ConfigError('which agent? run_agent.delay("ada"), by handle or id')
    return str(given[0])


def _run_id(task_id: str | None) -> UUID:
    try:
        return UUID(task_id) if task_id else uuid7()
    except ValueError:
        raise ConfigError(f"task_id {task_id!r} is no UUID, as the id of a run must be") from None


def _moment(value: float | datetime | None, now: datetime) -> datetime | None:
    """Seconds from now, or a moment, which is UTC unless it says otherwise."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return maybe_make_aware(value, UTC).astimezone(UTC)
    return now + timedelta(seconds=float(value))


def _kept(app: Any, options: dict[str, Any]) -> dict[str, Any] | None:
    """The options that matter, as JSON; None when there are none."""
    kept = {name: options[name] for name in KEPT if options.get(name) is not None}
    queue = kept.get("queue")
    if queue is not None:
        kept["queue"] = queue.name if isinstance(queue, Queue) else str(queue)
        if kept["queue"] not in app.amqp.queues:
            raise ConfigError(f"no queue {kept['queue']!r}: {', '.join(sorted(app.amqp.queues))}")
    for name in ("link", "link_error"):
        if kept.get(name):
            kept[name] = [_with_id(app, one) for one in maybe_list(kept[name]) or []]
    # A signature may hold a moment or a UUID; kombu's JSON has a form for them, and reads it again.
    return json.loads(dumps(kept)) if kept else None


def _with_id(app: Any, signature: Any) -> Any:
    """The same under an id of its own: begun twice, it is still one run."""
    found: Any = maybe_signature(signature, app=app)
    found = found.clone()
    found.options.setdefault("task_id", str(uuid7()))
    return found
