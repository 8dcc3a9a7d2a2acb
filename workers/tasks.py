"""The Celery face of the program. Each task names a moment; the work is in app.

From any Python shell:

    from workers.tasks import run_agent
    run = run_agent.delay("ada")    # a handle or an id; starts now, ahead of the cycle's backlog
    run.get(timeout=60)             # the run with its posts, comments, calls and cost

docs/shell.md has ten examples.
"""

from datetime import timedelta
from uuid import UUID

from celery.exceptions import Reject
from opentelemetry.trace import Span

from app import retention, tracing
from app.admission.turnstile import Stopping
from app.alerts import watch
from app.clock import utcnow
from app.integration import deliver
from app.integration.standing import holds_back
from app.log import get_logger
from app.runs import adhoc, cycles, jobs, leases, outside, rescue, upkeep
from app.runs.books import audit
from app.runs.execute import execute
from app.runs.report import RunReport
from app.runs.scheduling import Allowance, allowance
from app.runs.stops import look
from app.settings import Settings
from app.usage import partitions, ranking, rollups
from workers.asking import RunTask
from workers.celery import app
from workers.dispatch import backlog, publish, publish_runs
from workers.here import run_here, told
from workers.names import RUN
from workers.process import receivers, services

log = get_logger(__name__)

DELIVER_S = 6.0
"""Beat asks each 5 seconds, and the next round begins before this one is over: no event waits in between."""


@app.task(name=RUN, base=RunTask, bind=True)
def run_agent(self: RunTask, agent: str, cycle: str | None = None) -> str | RunReport:
    """Give an agent its turn in a cycle, or now. Safe to deliver twice: the second finds it taken.

    The message's id is the run's id, so a redelivered ad-hoc message is the same run, too. Called as a
    function it gives the turn here and now, and returns the run.
    """
    if self.request.called_directly or self.request.is_eager:
        return run_here(agent)
    run_id = UUID(self.request.id)
    if cycle is None:
        with services().engine.begin() as connection:
            adhoc.request_run(connection, run_id, str(agent), utcnow())
    try:
        outcome = execute(services(), run_id, is_adhoc=cycle is None, worker=self.request.hostname or "")
    except Stopping:
        raise Reject("the worker is told to end", requeue=True) from None
    return told(run_id, outcome)


@app.task(send_events=False, name="cycles.open")
def open_slice() -> str:
    """Open the slice that is now, and tell the workers."""
    settings = services().settings
    with tracing.span("open_slice", {}) as span:
        return _open_slice(settings, span)


def _open_slice(settings: Settings, span: Span) -> str:
    allowed = allowance(services().admission.state(), settings, utcnow())
    with services().engine.begin() as connection:
        if held := holds_back(connection, settings.app.backlog_max):
            allowed = Allowance(0, held)
        opened = cycles.open_slice(connection, now=utcnow(), cycle=settings.cycle, capacity=allowed.runs)
        said = f"slice {opened.slice_index}: {len(opened.runs)} runs, {opened.deferred} deferred"
        said += f" ({allowed.stopped})" if allowed.stopped else ""
        jobs.done(connection, jobs.OPEN_SLICE, said)
    publish_runs(opened.runs)
    tracing.tell(span, {tracing.CYCLE: opened.cycle_at, tracing.RUNS: len(opened.runs)})
    log.info("cycle.slice_opened", cycle_at=opened.cycle_at.isoformat(), did=said)
    return said


@app.task(send_events=False, name="runs.wake")
def wake_runs() -> str:
    """Queue the snoozed runs whose time has come, and tell the workers."""
    with services().engine.begin() as connection:
        woken = leases.wake(connection)
    if woken:
        publish(woken)
    return f"{len(woken)} woken"


@app.task(send_events=False, name="runs.rescue")
def rescue_runs() -> str:
    """Set going again what got stuck: see app/runs/rescue.py."""
    settings = services().settings
    patience = rescue.PATIENCE if backlog() else rescue.PATIENCE_IDLE
    with services().engine.begin() as connection:
        rescued = rescue.rescue(
            connection,
            patience=patience,
            call_deadline=timedelta(seconds=settings.gateway.longest_call_s + 60),
            lease=timedelta(seconds=settings.worker.lease_s),
        )
        jobs.done(connection, "runs.rescue", str(rescued))
    if rescued.to_publish:
        publish(rescued.to_publish)
    if rescued != rescue.Rescued():
        log.info("runs.rescued", did=str(rescued), quarantined=rescued.quarantined)
    return str(rescued)


@app.task(send_events=False, name="limits.reconcile")
def reconcile_limits() -> str:
    """Bring Redis in line with Postgres: limits and counters."""
    done = upkeep.reconcile_limits(services())
    with services().engine.begin() as connection:
        jobs.done(connection, jobs.RECONCILE, str(done))
    if done.drifted or done.put_in_force:
        log.info("limits.reconciled", did=str(done))
    return str(done)


@app.task(send_events=False, name="usage.roll_up")
def roll_up_usage() -> str:
    """Sum the ledger up by hour and day."""
    with services().engine.begin() as connection:
        done = rollups.roll_up(connection, services().settings.zone)
        jobs.done(connection, "usage.roll_up", str(done))
    return str(done)


@app.task(send_events=False, name="usage.rank")
def rank_usage() -> str:
    """Find out who used most, where that takes long."""
    done = ranking.rank(services().engine, utcnow(), services().settings.zone)
    with services().engine.begin() as connection:
        jobs.done(connection, "usage.rank", done)
    return done


@app.task(send_events=False, name="ledger.keep")
def keep_ledger() -> str:
    """Make the ledger's partitions of the days to come, drop those that are old and accounted for."""
    settings = services().settings
    engine = services().engine
    done = partitions.keep(engine, utcnow(), settings.zone, settings.kept.calls_days)
    with engine.begin() as connection:
        jobs.done(connection, "ledger.keep", str(done))
    return str(done)


@app.task(send_events=False, name="history.forget")
def forget_history() -> str:
    """Let go what is older than it is kept: runs, votes, comments, posts."""
    gone = retention.forget(services().engine, services().settings.kept, utcnow())
    said = ", ".join(f"{count} {name}" for name, count in gone.items()) or "nothing is old enough"
    with services().engine.begin() as connection:
        jobs.done(connection, "history.forget", said)
    return said


@app.task(send_events=False, name="integration.deliver")
def deliver_events() -> str:
    """Deliver what agents do into the application and to webhooks, until about the next time."""
    if not deliver.anybody(services().engine):
        return "nobody is connected"
    done = deliver.deliver_for(receivers(), DELIVER_S, services().stopping)
    with services().engine.begin() as connection:
        jobs.done(connection, "integration.deliver", str(done))
    return str(done)


@app.task(send_events=False, name="integration.keep")
def keep_events() -> str:
    """Forget events that were delivered long ago."""
    return f"{deliver.keep(services().engine, services().settings.app.keep_days)} forgotten"


@app.task(send_events=False, name="books.check")
def check_books() -> str:
    """Compare ledger, rollups and Redis; an alert says when they differ."""
    books = audit(services(), None, is_whole=False)
    said = f"{books.total} differences"
    with services().engine.begin() as connection:
        jobs.done(connection, jobs.CHECK_BOOKS, said)
    if books.total:
        log.error("books.differ", differences=books.differences)
    return said


@app.task(send_events=False, name="alerts.watch")
def watch_for_alerts() -> str:
    """Fold incidents, find what is worth a message, send what is due."""
    at = services()
    return watch.watch(at.engine, at.settings, look(at.admission, at.settings, at.engine).stop_reason)


@app.task(send_events=False, name="mentions.scan")
def scan_mentions() -> str:
    """Look for mentions of our accounts on X."""
    done = outside.scan_mentions(services())
    if done.accounts:
        with services().engine.begin() as connection:
            jobs.done(connection, "mentions.scan", str(done))
        log.info("mentions.scanned", did=str(done))
    return str(done)


@app.task(send_events=False, name="sources.check")
def check_sources() -> str:
    """Ask what is left of the credits of a paid source."""
    said = outside.check_balance(services())
    with services().engine.begin() as connection:
        jobs.done(connection, "sources.check", said)
    return said
