"""A turn that is given in this process, and what Celery is told of one."""

from datetime import timedelta
from uuid import UUID

from celery.exceptions import Ignore, Retry
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from app.clock import utcnow
from app.errors import NotYet, RunFailed, Unreachable
from app.models import RunState
from app.runs import adhoc, groups
from app.runs.execute import Outcome, execute
from app.runs.report import RunReport, report_run
from app.runs.states import TERMINAL
from app.settings import get_settings
from app.sql_faults import explain
from app.wiring import find_addresses, require_gateway
from workers.process import services

HERE = "a shell"


class Waits(Exception):
    """The run was put back, and a worker goes on with it."""


def told(run_id: UUID, outcome: Outcome | None) -> str:
    """Values that the worker tells Celery, and so Flower, of a turn: the outcome in a line. Raises RunFailed
    for one that failed, Retry for one that was put back, and Ignore when the run is not ours.
    """
    if outcome is None:
        return _ended_before(run_id)
    if outcome.state == RunState.SNOOZED:
        raise Retry(str(outcome), exc=Waits(str(outcome)), when=utcnow() + timedelta(seconds=1))
    if outcome.state == RunState.FAILED:
        raise RunFailed(str(outcome))
    return str(outcome)


def _ended_before(run_id: UUID) -> str:
    """A message for a run that another worker has, or that has ended: then what follows it may still wait."""
    with services().engine.connect() as connection:
        run = groups.find_member(connection, run_id)
    if run is None or not run.is_over:
        raise Ignore("there is no such run" if run is None else "another worker has it")
    if not run.is_well:
        raise RunFailed(str(run))
    return str(run)


def run_here(agent: str) -> RunReport:
    """Give an agent its turn here and now, through the same claim, admission and ledger as a worker. Raises
    NotFound for an unknown agent, RunFailed when it fails, NotYet when it has to wait: then workers go on.
    """
    require_gateway(find_addresses(get_settings()))
    run_id, held = uuid7(), services()
    try:
        with held.engine.begin() as connection:
            adhoc.store_run(connection, adhoc.Wanted(run_id, agent), utcnow())
    except SQLAlchemyError as error:
        raise Unreachable(f"the run was not stored: {explain(error)[0]}") from error
    outcome = execute(held, run_id, is_adhoc=True, worker=HERE)
    with held.engine.connect() as connection:
        run = report_run(connection, run_id)
    if run.state not in TERMINAL:
        why = f": {outcome.reason}" if outcome and outcome.reason else ""
        raise NotYet(
            f"run {run_id} of {run.agent} waits{why}. Workers go on with it: "
            f'run_agent.AsyncResult("{run_id}").get(timeout=60)'
        )
    if run.state in (RunState.FAILED, RunState.QUARANTINED):
        raise RunFailed(f"run {run_id} of {run.agent} {run.state}: {run.reason}")
    return run
