"""The half of `paceline doctor` that asks PostgreSQL: schema, rights, agents, scheduler, receivers, size."""

from datetime import timedelta

import psycopg
from redis.exceptions import RedisError
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from app import retention
from app.accounts import invitations, people
from app.agents.roster import count_agents
from app.cli import proofs
from app.cli.finding import Finding, clock
from app.clock import utcnow
from app.db import check_database, make_engine, where
from app.integration import standing
from app.migrations import check_migrated
from app.redis_client import make_redis
from app.runs import jobs, leases
from app.settings import Settings
from app.sql_faults import explain as explain_sql
from app.wiring import Addresses

UNTAKEN_S = 60.0
"""A queued run that nobody took for so long, with none at work, has no worker for its queue."""
FULL_SOON_DAYS = 14.0


def look_at_database(settings: Settings, addresses: Addresses) -> list[Finding]:
    """All of it, or the first thing that is missing, as PacelineError."""
    engine = make_engine(addresses.database_url)
    try:
        check_database(engine)
        with engine.connect() as connection:
            server = connection.execute(text("show server_version")).scalar_one()
            drift = abs(connection.execute(select(func.now())).scalar_one() - utcnow())
        findings = [
            Finding("postgres", "ok", f"{server} at {where(engine)}"),
            clock("clock", "PostgreSQL", drift.total_seconds()),
        ]
        findings += _pooler(engine)
        check_migrated(engine)
        findings.append(Finding("migrations", "ok", "schema is current"))
        try:
            proofs.prove_postgres(engine)
        except SQLAlchemyError as error:
            said, _ = explain_sql(error)
            findings.append(Finding("writes", "error", said, "docs/operations.md: the role's rights"))
        else:
            findings.append(Finding("writes", "ok", "a row was written and taken back"))
        with engine.connect() as connection:
            agents = count_agents(connection)
            silence = jobs.scheduler_silence(connection)
            lines = leases.lines(connection)
            has_admin = people.has_admin(connection)
            is_invited = invitations.is_admin_invited(connection)
            receivers = standing.read_standing(connection)
            sizes = retention.sizes(connection, settings, utcnow())
        findings.append(
            Finding("agents", "ok", f"{agents} agents")
            if agents
            else Finding("agents", "warning", "none", "paceline agents import examples/roster.csv")
        )
        findings.append(_scheduler(settings, silence, agents))
        findings.append(_accounts(has_admin, is_invited))
        findings += _receivers(receivers)
        findings.append(_queue(addresses, lines))
        findings.append(_storage(sizes, settings))
        return findings
    finally:
        engine.dispose()


def _receivers(receivers: list[standing.Standing]) -> list[Finding]:
    """The application and webhooks: whether events arrive."""
    found, mend = [], "paceline app check; paceline app replay, or paceline webhooks replay ID"
    for one in receivers:
        said = f"{one.where}: {one.state}, {one.pending} wait, {one.dead} dead"
        if trouble := one.reason or (one.error if one.dead or one.is_late else None):
            found.append(Finding("receivers", "warning", f"{said}: {trouble}", mend))
        else:
            found.append(Finding("receivers", "ok", said))
    return found


def _pooler(engine: Engine) -> list[Finding]:
    """A connection that comes out at another server process each time has a transaction pooler before it."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        is_prepared = driver.prepare_threshold is not None
        pids = set()
        for _ in range(8):
            pids |= set(driver.execute("select pg_backend_pid()", prepare=False).fetchall())
            driver.commit()
    if len(pids) == 1 or not is_prepared:
        return []
    mend = "add ?pooler=transaction to DATABASE_URL: prepared statements get mixed up otherwise"
    return [Finding("pooler", "error", "a transaction pooler is before PostgreSQL", mend)]


def _scheduler(settings: Settings, silence: timedelta | None, agents: int) -> Finding:
    start = "start `make up`, or `celery -A workers beat` and a worker"
    if silence is None:
        return Finding("scheduler", "warning" if agents else "ok", "no slice opened yet", start)
    age_s = silence.total_seconds()
    if age_s < -jobs.FUTURE_S:
        mend = "the next slice rights it; keep clocks in step (NTP)"
        return Finding("scheduler", "warning", jobs.say_age(age_s), mend)
    if jobs.is_silent(age_s, settings):
        return Finding("scheduler", "warning", jobs.say_age(age_s), start)
    return Finding("scheduler", "ok", jobs.say_age(age_s))


def _accounts(has_admin: bool, is_invited: bool) -> Finding:
    if has_admin:
        return Finding("accounts", "ok", "the dashboard has an administrator")
    if is_invited:
        return Finding("accounts", "ok", "`paceline up` printed a link for the first administrator")
    mend = "paceline accounts invite --role admin"
    return Finding("accounts", "warning", "nobody can sign in to the dashboard", mend)


def _queue(addresses: Addresses, lines: list[leases.Line]) -> Finding:
    """Workers by what they do: whether runs of each queue are taken. Where none waits, a connection that
    waits for messages is as good a sign as there is.
    """
    left = [line for line in lines if line.oldest_wait_s > UNTAKEN_S and not line.running]
    if left:
        queues = " and ".join(line.origin for line in left)
        longest = max(line.oldest_wait_s for line in left)
        said = f"nobody takes runs from the queue {queues}, the oldest is due since {longest:.0f} s"
        mend = "start workers: `make up`, or `celery -A workers worker`"
        return Finding("queue", "warning", said, mend)
    said = f"{sum(line.open for line in lines)} runs are open"
    client = make_redis(addresses.redis_url)
    try:
        is_heard = any(entry["cmd"] == "brpop" for entry in client.client_list())
    except RedisError:  # away, which its own check says, or a managed one that does not tell
        return Finding("queue", "ok", said)
    finally:
        client.close()
    return Finding("queue", "ok", f"{said}, {'workers listen' if is_heard else 'no worker listens'}")


def _storage(sizes: list[retention.Size], settings: Settings) -> Finding:
    """How large the tables are, how they grow, and when the disk is full."""
    found = retention.forecast(sizes, settings.kept)
    grows = f"{retention.say_bytes(found.per_day)} more a day" if found.per_day else "growth not known yet"
    said = f"{retention.say_bytes(found.size)}, {grows}"
    if found.ends_at is not None:
        said += f", ends at {retention.say_bytes(found.ends_at)}"
    if found.for_ever:
        said += f" and {retention.say_bytes(found.for_ever)} a day for what is kept for ever"
    if found.full_in_days is None:
        return Finding("storage", "ok", said)
    said += f"; PACELINE_KEEP__DISK_GB is full in {found.full_in_days:.0f} days"
    if found.full_in_days > FULL_SOON_DAYS:
        return Finding("storage", "ok", said)
    mend = "a larger disk, or fewer days in PACELINE_KEEP__RUNS_DAYS and its like"
    return Finding("storage", "error" if not found.full_in_days else "warning", said, mend)
