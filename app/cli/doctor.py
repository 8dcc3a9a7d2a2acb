"""`paceline doctor`: each part checked, each problem with its mend."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from redis import Redis
from redis.exceptions import RedisError

from app.accounts.passwords import SHORTEST
from app.alerts.money import NAMES
from app.alerts.outbox import unreadable
from app.cli import proofs
from app.cli.doctor_database import look_at_database
from app.cli.finding import Finding, clock
from app.cli.output import data, print_json
from app.clock import utcnow
from app.db import make_engine
from app.errors import ConfigError, PacelineError
from app.redis_client import check_redis, make_redis
from app.redis_client import where as redis_where
from app.runs.asked import asked_by
from app.runs.budgets import read_budgets
from app.runs.stops import Standing, find_stops, look, name_who_paused
from app.runs.workers import asked_now
from app.settings import Settings, get_settings
from app.urls import parse_database, parse_redis
from app.wiring import Addresses, build_admission, find_addresses

DEGRADED = 3


def doctor(
    only: Annotated[
        list[str] | None, typer.Option(help="Only this check, by its name; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Check settings, PostgreSQL, migrations, Redis, queues, gateway, agents, scheduler and the dashboard.

    Ends with 0 when all is well, 3 with warnings, 1 with errors.
    """
    findings = examine()
    if only:
        unknown = set(only) - {finding.check for finding in findings}
        if unknown and all(finding.level != "error" for finding in findings):
            known = ", ".join(finding.check for finding in findings)
            raise ConfigError(f"no check {', '.join(sorted(unknown))}: there are {known}")
        findings = [f for f in findings if f.check in only or (unknown and f.level == "error")]
    levels = {finding.level for finding in findings}
    if as_json:
        print_json({"ok": levels == {"ok"}, "findings": findings})
    else:
        styles = {"ok": "green", "warning": "yellow", "error": "red"}
        for finding in findings:
            data.print(f"[{styles[finding.level]}]{finding.level:8}[/] {finding.check:12}", end="")
            data.print(finding.says, markup=False)
            if finding.mend:
                data.print(f"{'':21} -> {finding.mend}", markup=False)
    if "error" in levels:
        raise typer.Exit(1)
    if "warning" in levels:
        raise typer.Exit(DEGRADED)


def examine() -> list[Finding]:
    """All findings. A check is left out when something that it needs has failed."""
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
    findings.append(_secrets(settings, addresses))
    findings += _exposed(settings)
    findings += _guarded("postgres", lambda: look_at_database(settings, addresses))
    findings += _guarded("redis", lambda: _redis(addresses))
    if all(finding.level != "error" for finding in findings):
        findings.append(_admission(settings, addresses))
    findings.append(_prices(settings, addresses))
    findings += _guarded("gateway", lambda: _gateway(settings, addresses))
    return findings


def _secrets(settings: Settings, addresses: Addresses) -> Finding:
    """Passwords that a person thinks up: Flower's, which can act, and those in the servers' addresses."""
    given = settings.flower.basic_auth
    passwords = {
        "PACELINE_FLOWER__BASIC_AUTH": given and given.get_secret_value().partition(":")[2],
        "DATABASE_URL": parse_database(addresses.database_url).address.password,
        "REDIS_URL": parse_redis(addresses.redis_url).password,
    }
    short = [name for name, word in passwords.items() if word is not None and len(word) < SHORTEST]
    if not short:
        return Finding("secrets", "ok", "no password is short")
    said = f"the password in {' and '.join(short)} is short"
    return Finding("secrets", "warning", said, f"take one of {SHORTEST} characters or more")


def _exposed(settings: Settings) -> list[Finding]:
    """Check what others on the network or the machine may read, and where alerts lead."""
    found = []
    is_local = settings.web.host in ("127.0.0.1", "::1", "localhost")
    if not is_local and not settings.web.url.startswith("https://"):
        said = f"the dashboard listens on {settings.web.host} without TLS: anybody reads its passwords"
        mend = "put a proxy with TLS before it and set PACELINE_WEB__PUBLIC_URL=https://..."
        found.append(Finding("web", "warning", said, mend))
    urls = [url.get_secret_value() for url in settings.alerts.urls]
    if wrong := unreadable(urls):
        said = f"PACELINE_ALERTS__URLS: number {', '.join(map(str, wrong))} of {len(urls)} names no service"
        found.append(Finding("alerts", "error", said, "look for a misspelling"))
    env = Path(".env")
    if env.exists() and env.stat().st_mode & 0o077:
        said = f".env can be read by others on this machine (mode {env.stat().st_mode & 0o777:o})"
        found.append(Finding("files", "warning", said, "chmod 600 .env"))
    return found


def _guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except PacelineError as error:
        return [_blame(name, error)]


def _blame(name: str, error: PacelineError) -> Finding:
    says, _, mend = str(error).rpartition(": ")
    return Finding(name, "error", says or str(error), mend if says else "")


def _redis(addresses: Addresses) -> list[Finding]:
    client = make_redis(addresses.redis_url)
    try:
        check_redis(client)
        findings = [_redis_server(client), _eviction(client)]
        seconds, micros = client.time()
        skew_s = abs(seconds + micros / 1e6 - utcnow().timestamp())
        return [*findings, clock("redis clock", "Redis", skew_s), _redis_work(client)]
    finally:
        client.close()


def _redis_server(client: Redis) -> Finding:
    try:
        server = client.info("server")
    except RedisError:  # a user without +info
        return Finding("redis", "ok", f"answers at {redis_where(client)}")
    name = server.get("valkey_version") and f"Valkey {server['valkey_version']}"
    said = f"{name or 'Redis ' + str(server['redis_version'])} at {redis_where(client)}"
    if proofs.is_cluster(client):
        mend = "Celery needs one Redis, with sentinels if it must not fail: turn cluster mode off"
        return Finding("redis", "error", f"{said} is in cluster mode", mend)
    return Finding("redis", "ok", said)


def _eviction(client: Redis) -> Finding:
    try:  # of INFO, because CONFIG is often forbidden
        policy = client.info("memory").get("maxmemory_policy", "unknown")
    except RedisError:
        policy = "unknown"
    if policy in ("noeviction", "unknown"):
        return Finding("eviction", "ok", f"maxmemory-policy is {policy}")
    mend = "set maxmemory-policy to noeviction: eviction drops queues and permits"
    return Finding("eviction", "warning", f"maxmemory-policy is {policy}", mend)


def _redis_work(client: Redis) -> Finding:
    try:
        done = proofs.prove_redis(client)
    except proofs.Refused as why:
        return Finding("redis work", "error", str(why), f"give the user these rights: {proofs.ACL}")
    return Finding("redis work", "ok", f"{', '.join(done)} work")


def _admission(settings: Settings, addresses: Addresses) -> Finding:
    """Check what holds all calls back: a pause, used-up credits, a refused key."""
    engine, redis = make_engine(addresses.database_url), make_redis(addresses.redis_url)
    try:
        admission = build_admission(settings, engine, redis, addresses.gateway_url)
        seen = look(admission, settings, engine)
        stops = find_stops(seen)
        with engine.connect() as connection:
            stops = name_who_paused(connection, stops)
            budgets = read_budgets(connection, settings, utcnow())
    finally:
        engine.dispose()
        redis.close()
    for stop in stops:
        is_stopped = stop.standing in (Standing.STOPPED, Standing.OVER_BUDGET)
        return Finding("admission", "error" if is_stopped else "warning", stop.says, stop.mend)
    for budget in budgets:
        if budget.is_used_up:
            said = f"the budget of {budget.of} {NAMES[budget.period]} is used up"
            mend = f"`paceline budget set --community {budget.of!r} --{budget.period}` raises it"
            return Finding("admission", "warning", said, mend)
    state = seen.state
    assert state is not None  # else it is a stop
    return Finding("admission", "ok", f"open, {state.effective_rate:g} of {state.rate:g} calls/s")


def _prices(settings: Settings, addresses: Addresses) -> Finding:
    """Models that no budget could hold: those of the workers, or of this shell when none works."""
    redis, now = make_redis(addresses.redis_url), utcnow()
    try:
        asked = asked_now(redis, settings, "", now)[0]
    except RedisError:
        asked = asked_by(settings, "", now)
    finally:
        redis.close()
    if asked.price_problem:
        said, _, mend = asked.price_problem.partition(": ")
        return Finding("prices", "warning", said, mend)
    return Finding("prices", "ok", "every model has a price")


def _gateway(settings: Settings, addresses: Addresses) -> list[Finding]:
    url = addresses.gateway_url
    if url is None:
        mend = "set LOVABLE_API_KEY or PACELINE_GATEWAY__BASE_URL, or `make up` for the sandbox"
        return [Finding("gateway", "error", "none configured", mend)]
    try:
        with httpx2.Client(timeout=5, trust_env=False) as client:
            answer = client.get(url)  # even a refusal will do: no key is sent and nothing is spent
    except httpx2.HTTPError as error:
        mend = "check PACELINE_GATEWAY__BASE_URL and the network"
        return [Finding("gateway", "error", f"{url} does not answer ({error})", mend)]
    if answer.status_code >= 500:
        mend = "the gateway, or a proxy before it, is in trouble: try again, then ask who runs it"
        return [Finding("gateway", "warning", f"{url} answers {answer.status_code}", mend)]
    if settings.withheld_key:
        mend = "set PACELINE_GATEWAY__API_KEY for a gateway that is not Lovable's"
        return [Finding("gateway", "warning", settings.withheld_key, mend)]
    key = "with a key" if settings.gateway_key else "without a key"
    return [Finding("gateway", "ok", f"{url} answers ({answer.status_code}), called {key}")]
