"""Celery's result backend over `paceline.runs`: a run's row is its result. Nothing is written twice, nothing
is kept in Redis, and the worker that ends a run pays nothing for it.

Only runs have results. Results of other tasks are dropped.
"""

from collections.abc import Collection, Iterable, Iterator
from queue import Empty
from typing import Any, NoReturn
from uuid import UUID

from celery import states
from celery.backends.base import BaseBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeout
from sqlalchemy.exc import SQLAlchemyError

from app.agents.roster import find_agent
from app.clock import monotonic, utcnow
from app.errors import NotFound, RunFailed, Unreachable
from app.models import RunState
from app.runs import adhoc, groups
from app.runs.report import RunReport, find_ended, find_run, find_runs
from app.sql_faults import explain
from workers.names import RUN
from workers.process import engine
from workers.waiting import Waiting

STATES = {
    RunState.QUEUED: states.PENDING,
    RunState.RUNNING: states.STARTED,
    RunState.SNOOZED: states.RETRY,
    RunState.COMPLETED: states.SUCCESS,
    RunState.SKIPPED: states.SUCCESS,
    RunState.FAILED: states.FAILURE,
    RunState.QUARANTINED: states.FAILURE,
}
"""A run that a limit skipped is no failure: it comes back with its reason."""


def state_of(run: RunReport) -> str:
    """A run's state in Celery's words."""
    if run.cancelled_by is not None:
        return states.REVOKED
    if run.state == RunState.SNOOZED and run.started_at is None:
        return states.PENDING  # it begins later, as asked
    return STATES[RunState(run.state)]


def meta_of(run: RunReport) -> dict[str, Any]:
    """Return a run as Celery knows a task."""
    state = state_of(run)
    result: Any = run
    if state == states.FAILURE:
        result = RunFailed(f"run {run.id} of {run.agent} {run.state}: {run.reason}")
    elif state == states.REVOKED:
        result = TaskRevokedError(run.reason)
    return {
        "task_id": str(run.id),
        "status": state,
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": run.finished_at,
        "name": RUN,
        "args": [run.agent],
        "kwargs": {},
        "worker": run.worker,
        "retries": max(0, run.attempt - 1),
        "queue": None,
    }


def _read_ended(run_ids: Collection[UUID]) -> list[RunReport]:
    with engine().connect() as connection:
        ended = find_ended(connection, list(run_ids))
        return list(find_runs(connection, ended).values()) if ended else []


_waiting = Waiting(_read_ended)


def _as_uuid(task_id: Any) -> UUID | None:
    try:
        return UUID(str(task_id))
    except ValueError:
        return None


def _known_uuid(task_id: Any) -> UUID:
    run_id = _as_uuid(task_id)
    if run_id is None:
        raise NotFound(f"no run has the id {task_id!r}: it is no UUID")
    return run_id


class RunsBackend(BaseBackend):
    """Reads runs. Everything that Celery would store is in PostgreSQL already."""

    app: Any
    _fail_chain: Any  # Celery's, missing in its types
    supports_native_join = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.thread_safe = True

    def as_uri(self, include_password: bool = False) -> str:
        """Return the address for `celery report` and a worker's banner."""
        return "paceline.runs"

    # reading

    def _get_task_meta_for(self, task_id: Any) -> dict[str, Any]:
        run_id = _as_uuid(task_id)
        try:
            with engine().connect() as connection:
                run = find_run(connection, run_id) if run_id else None
        except SQLAlchemyError as error:
            _say_away(error)
        unknown: dict[str, Any] = {
            "status": states.PENDING,
            "result": None,
            "traceback": None,
            "children": [],
        }
        return meta_of(run) if run else unknown

    def wait_for(
        self,
        task_id: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Any = None,
    ) -> dict[str, Any]:
        """Wait for a run to end. Raises TimeoutError that says where it stands."""
        (found,) = self.get_many([task_id], timeout=timeout, on_interval=on_interval)
        return found[1]

    def get_many(
        self,
        task_ids: Iterable[Any],
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
        max_iterations: Any = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Wait for runs to end; each comes as soon as it has."""
        deadline = None if timeout is None else monotonic() + timeout
        wanted = {_known_uuid(task_id): task_id for task_id in task_ids}
        with _waiting.waiting_for(list(wanted)) as arrivals:
            while wanted:
                left = 1.0 if deadline is None else min(1.0, deadline - monotonic())
                try:
                    one = arrivals.get(timeout=max(0.0, left))
                except Empty:
                    if deadline is not None and monotonic() >= deadline:
                        raise CeleryTimeout(self._say_late(list(wanted), timeout)) from None
                    if on_interval:
                        on_interval()
                    continue
                if isinstance(one, SQLAlchemyError):
                    _say_away(one)
                if isinstance(one, Exception):
                    raise one
                meta = meta_of(one)
                if on_message is not None:
                    on_message(meta)
                yield wanted.pop(one.id), meta

    def _say_late(self, run_ids: list[UUID], timeout: float | None) -> str:
        """Where runs stand that have not ended in time."""
        late = f"not ended after {timeout:g} s"
        try:
            with engine().connect() as connection:
                found = find_runs(connection, run_ids[:1])
        except SQLAlchemyError as error:
            return f"{late}: {explain(error)[0]}"
        others = f", and {len(run_ids) - 1} more" if len(run_ids) > 1 else ""
        run = found.get(run_ids[0])
        if run is None:
            return f"{late}: there is no run {run_ids[0]}{others}"
        said = f"run {run.id} of {run.agent} is {run.state}{others}"
        return f"{late}: {said}; it goes on. `paceline agents explain {run.agent}` says what it waits for"

    # what the worker tells, of which nothing needs to be stored

    def store_result(
        self, task_id: Any, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        """Store nothing of a run that was: its row is written. A run of a chain or a chord that will never
        begin gets a row that says why.
        """
        asks = getattr(request, "options", None)
        if state in states.PROPAGATE_STATES and asks is not None and request.task == RUN:
            self._fail_unbegun(str(task_id), request.args, asks, result)
        return result

    def _fail_unbegun(self, task_id: str, args: Any, options: Any, why: Any) -> None:
        run_id = _as_uuid(task_id)
        if run_id is None:
            return
        who = str(args[-1]) if args else "?"
        reason = f"not begun: {why}"
        kept = {name: options[name] for name in ("chord", "group_id") if options.get(name)}
        wanted = adhoc.Wanted(run_id, who, options=kept or None)
        with engine().begin() as connection:
            agent_id = find_agent(connection, who)
            adhoc.fail_unbegun(connection, wanted, agent_id, reason, utcnow())
            groups.note_continued(connection, [run_id])

    def mark_as_revoked(
        self,
        task_id: Any,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """A message that was dropped, because its run was revoked: what follows it does not begin."""
        super().mark_as_revoked(task_id, reason, request=request, store_result=False, state=state)
        if request is None:
            return
        if getattr(request, "chain", None):
            self._fail_chain(request.chain, TaskRevokedError(f"run {task_id} before it was {reason}"))
        note_continued(request)

    # chords

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Nothing to prepare: the runs of the header carry the body."""

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """Begin the body when every run of the header has ended. Two that end together begin it once,
        because it is stored under the id that it was given.
        """
        group_id = getattr(request, "group", None)
        if not group_id or not request.chord:
            return
        body: Any = maybe_signature(request.chord, app=self.app)
        with engine().connect() as connection:
            parts = groups.members(connection, group_id)
        size = body.get("chord_size") or len(parts)
        if len(parts) < size or not all(part.is_over for part in parts):
            return
        failed = next((part for part in parts if not part.is_well), None)
        if failed is None:
            body.apply_async(([f"{part.agent}: {part.state}" for part in parts],))
            return
        why = ChordError(f"run {failed.id} of {failed.agent} {failed.state}: {failed.reason}")
        self._fail(body, why)

    def _fail(self, signature: Any, why: Exception) -> None:
        """Note that a signature, and what would follow it, will never begin."""
        inner = signature.tasks if hasattr(signature, "tasks") else []
        for one in inner:
            self._fail(maybe_signature(one, app=self.app), why)
        options = signature.options
        if not inner and options.get("task_id") and signature.task == RUN:
            self._fail_unbegun(options["task_id"], signature.args, options, why)
        self._fail_chain(options.get("chain"), why)

    # groups

    def _save_group(self, group_id: str, result: Any) -> Any:
        return result  # each run knows its group

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        with engine().connect() as connection:
            parts = groups.members(connection, group_id)
        results = [self.app.AsyncResult(str(part.id)) for part in parts]
        return {"result": self.app.GroupResult(group_id, results)} if results else None

    def _delete_group(self, group_id: str) -> None:
        """Runs are kept: they are the history."""

    def _forget(self, task_id: Any) -> None:
        """A run is kept: it is the history. `forget` frees nothing, and need not be called."""


def note_continued(request: Any) -> None:
    """Note that what follows a run was begun, if something does."""
    if any(getattr(request, name, None) for name in ("chain", "chord", "callbacks", "errbacks")):
        run_id = _as_uuid(request.id)
        if run_id is not None:
            with engine().begin() as connection:
                groups.note_continued(connection, [run_id])


def _say_away(error: SQLAlchemyError) -> NoReturn:
    raise Unreachable(f"the run cannot be looked up: {explain(error)[0]}") from error
