"""`paceline up`: everything in the foreground, from nothing.

Servers (embedded unless their URLs are set) -> migrations -> sandbox gateway when there is no key
-> example agents when there are none -> workers, beat, dashboard, Flower. Ends on Ctrl-C, SIGTERM or
after --for seconds: beat first, then the workers finish what they hold, then the rest.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app import controls, migrations
from app.accounts import invitations, people
from app.admission import limits
from app.admission.controller import Admission
from app.agents import roster
from app.agents.roster_file import read_roster
from app.cli import flower as monitor
from app.cli.db import follow_zone
from app.cli.foreground import alone, stop_on_signals
from app.cli.output import notes, print_json
from app.cli.parts import Part, celery_command, free_port, require_port, stop_all
from app.cli.up_report import display, read, show_reasons, show_summary, summarize, why_nothing_runs
from app.clock import monotonic, sleep, utcnow
from app.db import check_database, make_engine
from app.embedded import Servers, revive, servers
from app.errors import ConfigError, PacelineError, Unreachable
from app.redis_client import check_redis, make_redis
from app.runs import jobs, leases
from app.runs.asked import asked_by
from app.runs.budgets import read_budgets
from app.runs.stops import find_stops, look
from app.settings import Settings, get_settings
from app.sql_faults import describe
from app.wiring import build_admission, find_addresses, publish

EXAMPLES = next(
    (
        file
        for file in (
            Path(__file__).parents[2] / "examples" / "roster.csv",
            Path(__file__).parents[1] / "bundled" / "roster.csv",
        )
        if file.exists()
    ),
    None,
)
"""Beside the program in a checkout, within it when it was installed from a wheel."""


def up(
    for_s: Annotated[float | None, typer.Option("--for", help="End after this many seconds", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes", min=1, max=64)] = None,
    no_web: Annotated[bool, typer.Option("--no-web", help="No dashboard")] = False,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="No Flower")] = False,
    no_sandbox: Annotated[bool, typer.Option("--no-sandbox", help="Never start the sandbox")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON")] = False,
) -> None:
    """Run everything in the foreground: servers, sandbox, beat, workers, dashboard, Flower."""
    began = monotonic()
    settings = get_settings()
    if settings.gateway_url is None and no_sandbox:
        raise ConfigError("--no-sandbox needs a gateway: set LOVABLE_API_KEY or PACELINE_GATEWAY__BASE_URL")
    if not no_web:
        require_port(settings.web.host, settings.web.port, "PACELINE_WEB__PORT", "--no-web")
    if not no_flower:
        monitor.check(settings)
    stopping = stop_on_signals()
    needs = {"postgres": settings.database_url is None, "valkey": settings.redis_url is None}
    if any(needs.values()):
        notes.print(f"starting {' and '.join(n for n, wanted in needs.items() if wanted)} ...")
    with alone(settings.home), servers(settings.home, **needs) as started:
        addresses = find_addresses(settings)
        engine = _prepare_database(addresses.database_url)
        redis = make_redis(addresses.redis_url)
        check_redis(redis)
        with engine.begin() as connection:
            limits.follow_settings(connection, settings.limits)
            controls.follow_settings(connection, settings.controls)
            _refuse_budget_without_prices(connection, settings)
        follow_zone(engine, settings)
        _seed_agents(engine)
        env = dict(os.environ, DATABASE_URL=addresses.database_url, REDIS_URL=addresses.redis_url)
        with _sandbox(settings, env) as gateway_url:
            env |= _sandbox_addresses(settings, gateway_url)
            if no_flower:
                env.setdefault("PACELINE_WORKER__EVENTS", "false")
            since = utcnow()
            parts = _start_parts(settings, env, workers, web=not no_web, flower=not no_flower)
            _announce(settings, gateway_url, web=not no_web, flower=not no_flower)
            if not no_web:
                _greet_first_admin(engine, settings)
            admission = build_admission(settings, engine, redis, gateway_url)
            killed: list[str] = []
            try:
                deadline = None if for_s is None else monotonic() + for_s
                _watch(engine, admission, settings, started, parts, since, deadline, stopping)
            finally:
                killed = _drain(engine, settings, parts, finish=for_s is not None, stopping=stopping)
            summary = summarize(engine, settings, since, began, parts, gateway_url, killed)
        redis.close()
        engine.dispose()
    show_reasons(summary)
    if as_json:
        print_json(summary)
        if summary["nothing_ran"]:
            raise PacelineError(summary["nothing_ran"])
    else:
        show_summary(summary)


# Preparing


def _prepare_database(url: str) -> Engine:
    engine = make_engine(url)
    check_database(engine)
    if migrations.pending(engine):
        notes.print("migrating the database ...")
        migrations.upgrade(engine)
    return engine


def _refuse_budget_without_prices(connection: Connection, settings: Settings) -> None:
    """A budget that cannot hold is worse than none: say so before anything is paid for."""
    problem = asked_by(settings, "", utcnow()).price_problem
    if not problem or not any(b.limit for b in read_budgets(connection, settings, utcnow())):
        return
    if settings.usage.unknown_prices == "refuse":
        raise ConfigError(f"a budget is set, but {problem}; or set PACELINE_USAGE__UNKNOWN_PRICES=warn")
    notes.print(f"a budget is set, but {problem}", style="yellow", markup=False)


def _seed_agents(engine: Engine) -> None:
    with engine.begin() as connection:
        if roster.count_agents(connection):
            return
        if EXAMPLES is None:
            notes.print("no agents yet: paceline agents import FILE", style="yellow")
            return
        examples = read_roster(EXAMPLES.read_bytes(), is_json=False)
        done = roster.add_agents(connection, examples.entries)
    notes.print(f"no agents yet: imported {done.created} examples from {EXAMPLES.name}")


@contextmanager
def _sandbox(settings: Settings, env: dict[str, str]) -> Iterator[str]:
    """The gateway's URL: the configured one, else that of a sandbox that runs for the block."""
    if settings.gateway_url is not None:
        yield settings.gateway_url
        return
    port = settings.sandbox.port or free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, "-m", "app.cli", "sandbox", "--port", str(port)]
    part = Part("sandbox", command, env, _logs(settings))
    address = settings.home / "sandbox.url"
    try:
        _wait_for_sandbox(part, url.removesuffix("/v1"))
        address.write_text(url)
        yield url
    finally:
        address.unlink(missing_ok=True)
        stop_all([part], 5)


def _sandbox_addresses(settings: Settings, gateway_url: str) -> dict[str, str]:
    """Return the gateway that the parts call. The sandbox stands in for twitterapi.io, too, where there is no
    key for it.
    """
    found = {"PACELINE_GATEWAY__BASE_URL": gateway_url}
    if settings.gateway_url is None and settings.twitterapi_io_key is None:
        found["PACELINE_SOURCES__TWITTERAPI_URL"] = gateway_url.removesuffix("/v1")
        found["TWITTERAPI_IO_KEY"] = "sandbox"
    return found


def _wait_for_sandbox(part: Part, url: str) -> None:
    deadline = monotonic() + 30
    with httpx2.Client(timeout=2, trust_env=False) as client:
        while monotonic() < deadline:
            try:
                client.get(f"{url}/health").raise_for_status()
            except httpx2.HTTPError:
                sleep(0.05)
            else:
                return
    raise Unreachable(f"the sandbox gateway did not start, {part.log} says: {part.last_line()}")


def _start_parts(
    settings: Settings, env: dict[str, str], workers: int | None, *, web: bool, flower: bool
) -> list[Part]:
    """Workers first, so that the slice beat opens at once finds them listening soon."""
    logs = _logs(settings)
    level = f"--loglevel={settings.log.level}"
    parts = [
        Part(
            f"worker{number}",
            celery_command(
                "worker", f"--hostname=worker{number}@%h", level, "--without-gossip", "--without-mingle"
            ),
            env,
            logs,
        )
        for number in range(1, (workers or settings.worker.processes) + 1)
    ]
    # Workers wait for permits with all their threads when the fleet is busy; a person's run, and what
    # keeps the rest going, must not wait behind that.
    express = ("worker", "--hostname=express@%h", "--queues=adhoc,maintenance", "--concurrency=8")
    quiet = ("--without-gossip", "--without-mingle")
    parts.append(Part("express", celery_command(*express, level, *quiet), env, logs))
    parts.append(Part("beat", celery_command("beat", level), env, logs))
    if web:
        where = ("--host", settings.web.host, "--port", str(settings.web.port))
        command = [sys.executable, "-m", "app.web", *where]
        parts.append(Part("web", command, env, logs))
    if flower:
        parts.append(monitor.start(settings, env, logs))
    return parts


def _logs(settings: Settings) -> Path:
    logs = settings.home / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    return logs


def _announce(settings: Settings, gateway_url: str, *, web: bool, flower: bool) -> None:
    kind = "" if settings.gateway_url else " (sandbox: no key is set, nothing is spent)"
    notes.print(f"gateway    {gateway_url}{kind}, cap {settings.limits.rate:g} calls/s")
    if web:
        notes.print(f"dashboard  {settings.web.url}", markup=False)
    if flower:
        notes.print(f"Flower     {monitor.about(settings)}", markup=False)
    notes.print(f"logs       {_logs(settings)}/        Ctrl-C ends it cleanly")


def _greet_first_admin(engine: Engine, settings: Settings) -> None:
    with engine.begin() as connection:
        if people.has_admin(connection):
            return
        secret = invitations.invite_first_admin(connection)
    notes.print(f"sign in    {invitations.link(settings.web.url, secret)}", markup=False)
    notes.print("           works once: it makes you the dashboard's administrator")


# Running


def _watch(
    engine: Engine,
    admission: Admission,
    settings: Settings,
    started: Servers,
    parts: list[Part],
    since: datetime,
    deadline: float | None,
    stopping: threading.Event,
) -> None:
    """Show progress and restart what dies or hangs, until told to stop."""
    patience_s = jobs.longest_silence(settings).total_seconds()
    beat = next(part for part in parts if part.name == "beat")
    began = beat_since = monotonic()
    trouble = ""
    with display() as show:
        while not stopping.is_set() and (deadline is None or monotonic() < deadline):
            for name in revive(settings.home, started):
                notes.print(f"{name} had died and was started again", style="yellow")
            for part in parts:
                if said := part.check():
                    notes.print(said, style="yellow", markup=False)
            try:
                progress = read(engine, settings, since)
            except SQLAlchemyError as error:
                if describe(error) != trouble:
                    trouble = describe(error)
                    notes.print(f"PostgreSQL: {trouble}; runs wait", style="yellow", markup=False)
            else:
                said = why_nothing_runs(progress, parts, settings, monotonic() - began)
                if said and said != trouble:
                    notes.print(said, style="yellow", markup=False)
                trouble = said or ""
                show(progress, find_stops(look(admission, settings, engine)))
                # Judged by what it does: a beat can hang for days and look alive.
                silent_s = abs(progress.scheduler_silence_s or 0.0)
                if min(silent_s, monotonic() - beat_since) > patience_s:
                    notes.print("no slice was opened for too long: beat is replaced", style="yellow")
                    beat.replace()
                    beat_since = monotonic()
            left = 1.0 if deadline is None else min(1.0, deadline - monotonic())
            stopping.wait(max(0.0, left))


# Ending


def _drain(
    engine: Engine, settings: Settings, parts: list[Part], *, finish: bool, stopping: threading.Event
) -> list[str]:
    """Stop in order: beat, then workers when they have finished, then what watches them.

    With `finish` (an `up --for`), what waits in the queue is worked off first, for as long as two
    slices may take; without, it waits for the next start, as far as it does not expire.
    """
    notes.print("draining ...")
    grace = settings.gateway.longest_call_s + 5
    workers = [part for part in parts if part.name.startswith(("worker", "express"))]
    beat = [part for part in parts if part.name == "beat"]
    killed: list[str] = []
    try:
        killed += stop_all(beat, 45)
        if finish:
            deadline = monotonic() + 2 * settings.cycle.slice_length_s + grace
            while monotonic() < deadline and not stopping.is_set() and _count_open(engine):
                _wake(engine)  # beat is gone, and what snoozed has to finish, too
                stopping.wait(0.5)
        killed += stop_all(workers, grace)
        if finish:
            with engine.begin() as connection:
                leases.skip_waiting(connection, "stopped")
    finally:
        killed += stop_all(parts, 10)
    return killed


def _wake(engine: Engine) -> None:
    with engine.begin() as connection:
        woken = leases.wake(connection)
    if woken:
        publish(woken)


def _count_open(engine: Engine) -> int:
    with engine.connect() as connection:
        return leases.count_open(connection)
