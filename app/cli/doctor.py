"""`paceline doctor`: each part checked, each problem with its mend."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

import httpx2
import typer
from redis.exceptions import ResponseError
from sqlalchemy import func, select, text

from app.agents.roster import count_agents
from app.cli.output import data, print_json
from app.clock import utcnow
from app.db import check_database, make_engine, where
from app.errors import PacelineError
from app.migrations import check_migrated
from app.redis_client import check_redis, make_redis
from app.redis_client import where as redis_where
from app.runs import jobs
from app.settings import Settings, get_settings
from app.wiring import Addresses, find_addresses

DEGRADED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `level` is ok, warning or error; a mend goes with what is not ok."""

    check: str
    level: str
    says: str
    mend: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Check settings, PostgreSQL, migrations, Redis, gateway, agents and the scheduler.

    Ends with 0 when all is well, 3 with warnings, 1 with errors.
    """
    findings = examine()
    levels = {finding.level for finding in findings}
    if as_json:
        print_json({"ok": levels == {"ok"}, "findings": findings})
    else:
        styles = {"ok": "green", "warning": "yellow", "error": "red"}
        for finding in findings:
            data.print(f"[{styles[finding.level]}]{finding.level:8}[/] {finding.check:11}", end="")
            data.print(finding.says, markup=False)
            if finding.mend:
                data.print(f"{'':20} -> {finding.mend}", markup=False)
    if "error" in levels:
        raise typer.Exit(1)
    if "warning" in levels:
        raise typer.Exit(DEGRADED)


def examine() -> list[Finding]:
    """All findings. What cannot be checked because something before it failed is left out."""
    try:
        settings = get_settings()
    except PacelineError as error:
        return [_blame("settings", error)]
    findings = [
        Finding(
            "versions",
            "ok",
            f"Paceline {version('paceline')}, Python {platform.python_version()}, "
            f"Celery {version('celery')}, SQLAlchemy {version('sqlalchemy')}, redis-py {version('redis')}",
        ),
        Finding("settings", "ok", "all known"),
    ]
    try:
        addresses = find_addresses(settings)
    except PacelineError as error:
        return [*findings, _blame("servers", error)]
    findings += _guarded("postgres", lambda: _postgres(settings, addresses))
    findings += _guarded("redis", lambda: _redis(addresses))
    findings += _guarded("gateway", lambda: _gateway(settings, addresses))
    return findings


def _guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except PacelineError as error:
        return [_blame(name, error)]


def _blame(name: str, error: PacelineError) -> Finding:
    says, _, mend = str(error).rpartition(": ")
    return Finding(name, "error", says or str(error), mend if says else "")


def _postgres(settings: Settings, addresses: Addresses) -> list[Finding]:
    engine = make_engine(addresses.database_url)
    try:
        check_database(engine)
        with engine.connect() as connection:
            server = connection.execute(text("show server_version")).scalar_one()
            drift = abs(connection.execute(select(func.now())).scalar_one() - utcnow())
        findings = [Finding("postgres", "ok", f"{server} at {where(engine)}")]
        if drift > timedelta(seconds=2):
            findings.append(
                Finding(
                    "clock",
                    "warning",
                    f"this machine and PostgreSQL are {drift.total_seconds():.1f} s apart",
                    "keep clocks in step (NTP): slices open late otherwise",
                )
            )
        check_migrated(engine)
        findings.append(Finding("migrations", "ok", "schema is current"))
        with engine.connect() as connection:
            agents = count_agents(connection)
            silence = jobs.scheduler_silence(connection)
        findings.append(
            Finding("agents", "ok", f"{agents} agents")
            if agents
            else Finding("agents", "warning", "none", "paceline agents import examples/roster.csv")
        )
        findings.append(_scheduler(settings, silence, agents))
        return findings
    finally:
        engine.dispose()


def _scheduler(settings: Settings, silence: timedelta | None, agents: int) -> Finding:
    start = "start `make up`, or `celery -A workers beat` and a worker"
    if silence is None:
        return Finding("scheduler", "warning" if agents else "ok", "no slice opened yet", start)
    limit = jobs.longest_silence(settings)
    said = f"last slice opened {silence.total_seconds():.0f} s ago"
    return (
        Finding("scheduler", "ok", said)
        if silence < limit
        else Finding("scheduler", "warning", said, start)
    )


def _redis(addresses: Addresses) -> list[Finding]:
    client = make_redis(addresses.redis_url)
    try:
        check_redis(client)
        server = client.info("server")
        name = server.get("valkey_version") and f"Valkey {server['valkey_version']}"
        said = f"{name or 'Redis ' + str(server['redis_version'])} at {redis_where(client)}"
        findings = [Finding("redis", "ok", said)]
        try:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        except ResponseError:
            policy = "unknown"  # managed servers forbid CONFIG
        if policy not in ("noeviction", "unknown"):
            mend = "CONFIG SET maxmemory-policy noeviction: eviction drops queues and permits"
            findings.append(Finding("eviction", "warning", f"maxmemory-policy is {policy}", mend))
        return findings
    finally:
        client.close()


def _gateway(settings: Settings, addresses: Addresses) -> list[Finding]:
    url = addresses.gateway_url
    if url is None:
        mend = "set LOVABLE_API_KEY or PACELINE_GATEWAY__BASE_URL, or `make up` for the sandbox"
        return [Finding("gateway", "error", "none configured", mend)]
    try:
        with httpx2.Client(timeout=5, trust_env=False) as client:
            answer = client.get(url)  # any answer will do: no key is sent and nothing is spent
    except httpx2.HTTPError as error:
        mend = "check PACELINE_GATEWAY__BASE_URL and the network"
        return [Finding("gateway", "error", f"{url} does not answer ({error})", mend)]
    key = "with a key" if settings.gateway_key else "without a key"
    return [Finding("gateway", "ok", f"{url} answers ({answer.status_code}), called {key}")]
