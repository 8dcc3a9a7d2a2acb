"""CPU per gateway call: Paceline, what people write first, an asyncio script, and the bare client.

    python -m bench.pipeline --rounds 3 --out docs/pipeline.json

Real embedded servers, real workers, one sandbox gateway without a cap for all; once without latency, once
with a second. CPU is that of the processes that make the calls, user and system, from when a fifth of the
work is done until all of it is; they have one core to themselves, and the servers another, as if those were
elsewhere. Rounds alternate, the middle one counts. Everything is a ratio to the bare client's
`chat.completions.create`, sync, in one thread, in the same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, func, make_url, select, text

from app import migrations
from app.clock import monotonic, sleep, utcnow
from app.db import make_engine
from app.embedded import Servers, servers
from app.models import Call, Run
from app.runs.states import TERMINAL
from tests.support.factories import make_agents
from tests.support.program import clean_env, sandbox_process

WARM = 5
"""A fifth of the work is done before the measurement begins."""
BARE = "openai client alone"
CALLERS = ["taskset", "--cpu-list", "0"]
"""The core of those who call; all else has the others."""
Count = Callable[[], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1200, help="turns at no latency; a third with a second")
    parser.add_argument("--latencies", type=float, nargs="*", default=[0, 1])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)))
    result: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    for latency in chosen.latencies:
        runs = chosen.runs if latency == 0 else chosen.runs // 3
        rounds = [measure(latency, runs) for _ in range(chosen.rounds)]
        result[f"latency {latency:g} s"] = {name: middle(rounds, name) for name in rounds[0]}
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def middle(rounds: list[dict[str, dict[str, float]]], name: str) -> dict[str, Any]:
    """The medians of one contender, and its ratio to the bare client of the same round."""
    ratios = [one[name]["cpu_ms_per_call"] / one[BARE]["cpu_ms_per_call"] for one in rounds]
    found = {what: round(statistics.median(one[name][what] for one in rounds), 3) for what in rounds[0][name]}
    return found | {
        "over_bare": round(statistics.median(ratios), 2),
        "over_bare_of_rounds": [round(ratio, 2) for ratio in sorted(ratios)],
        "calls_per_s_per_core": round(1000 / found["cpu_ms_per_call"]),
    }


def measure(latency: float, runs: int) -> dict[str, dict[str, float]]:
    """One round of all."""
    threads = 16
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as name,
        servers(Path(name) / "servers") as started,
        sandbox_process("--unlimited", "--latency", f"{latency:g}", cwd=Path(name)) as gateway,
    ):
        assert started.database_url
        assert started.redis_url
        env = clean_env(
            DATABASE_URL=started.database_url,
            REDIS_URL=started.redis_url,
            GATEWAY_URL=f"{gateway}/v1",
            PACELINE_HOME=name,
            PACELINE_GATEWAY__BASE_URL=f"{gateway}/v1",
            PACELINE_LIMITS__RATE="10000",
            PACELINE_LIMITS__BURST="1000",
            PACELINE_WORKER__THREADS=str(threads),
            PACELINE_LOG__LEVEL="WARNING",
        )
        # One thread is the strictest comparison; with a second of latency it would take too long.
        alone = 1 if latency == 0 else threads
        results = {
            BARE: script("bench.bare_client", env, "--calls", f"{runs}", "--threads", f"{alone}"),
            "Paceline": paceline(Path(name), started, env, runs, threads, events=True),
            "Paceline without events": paceline(Path(name), started, env, runs, threads, events=False),
            "Celery, ORM, polled counter": naive(
                Path(name), started, env, runs, 2 if latency == 0 else threads
            ),
            "asyncio script, same limiter": script(
                "bench.plain_asyncio", env, "--calls", f"{runs}", "--tasks", f"{threads}"
            ),
        }
    for who, found in results.items():
        sys.stderr.write(f"latency {latency:g}: {who}: {json.dumps(found)}\n")
    return results


def script(module: str, env: dict[str, str], *arguments: str) -> dict[str, float]:
    """A process that measures itself."""
    done = subprocess.run(
        [*CALLERS, sys.executable, "-m", module, *arguments],
        env=env,
        check=True,
        stdout=subprocess.PIPE,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def paceline(
    folder: Path, started: Servers, env: dict[str, str], runs: int, threads: int, *, events: bool
) -> dict[str, float]:
    """A cycle of so many new agents, with the settings as they come, by one worker."""
    engine = make_engine(started.database_url or "")
    migrations.upgrade(engine)
    tables = "agents, communities, runs, ai_request_log, posts, comments, votes"
    with engine.begin() as connection:
        connection.execute(text(f"truncate {', '.join('paceline.' + t for t in tables.split(', '))} cascade"))
        make_agents(connection, runs)
    env = env | {"PACELINE_WORKER__EVENTS": str(events).lower()}
    publish = (
        "from datetime import timedelta\n"
        "from app.clock import utcnow\n"
        "from app.runs.cycles import open_slice\n"
        "from app.settings import CycleSettings\n"
        "from workers.dispatch import publish_runs\n"
        "from workers.process import services\n"
        "cycle = CycleSettings(slice_s=3600, period_s=3600)\n"
        "with services().engine.begin() as connection:\n"
        f"    opened = open_slice(connection, now=utcnow(), cycle=cycle, capacity={runs})\n"
        "publish_runs(opened.runs)\n"
    )

    def ended() -> int:
        with engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(Run.state.in_(TERMINAL))).scalar_one())

    def calls() -> int:
        with engine.connect() as connection:
            return int(connection.execute(select(func.count()).where(Call.status == "ok")).scalar_one())

    with worker("workers", ["--concurrency", f"{threads}"], env, folder, CALLERS) as process:
        publisher = subprocess.Popen([sys.executable, "-c", publish], env=env)
        found = follow(process, ended, calls, runs)
        publisher.wait(60)
    engine.dispose()
    return found


def naive(folder: Path, started: Servers, env: dict[str, str], runs: int, threads: int) -> dict[str, float]:
    """The same number of agents, one call each, by a prefork worker with so many children."""
    engine = create_engine(make_url(started.database_url or "").set(drivername="postgresql+psycopg"))
    make = (
        "from bench.naive import *\n"
        "from sqlalchemy import text\n"
        "with engine.begin() as c: c.execute(text('create schema if not exists naive'))\n"
        "Base.metadata.drop_all(engine); Base.metadata.create_all(engine)\n"
        "with session() as db:\n"
        f"    db.add_all(Agent(handle=f'a{{n}}', persona='You like load.') for n in range({runs}))\n"
        "    db.commit()\n"
    )
    publish = f"from bench.naive import run\nfor n in range({runs}): run.delay(f'a{{n}}')\n"
    subprocess.run([sys.executable, "-c", make], env=env, check=True, timeout=120)

    def calls() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("select count(*) from naive.calls")).scalar_one())

    with worker("bench.naive", ["--concurrency", f"{threads}", "-E"], env, folder, CALLERS) as process:
        publisher = subprocess.Popen([sys.executable, "-c", publish], env=env)
        found = follow(process, calls, calls, runs)
        publisher.wait(60)
    engine.dispose()
    return found


@contextmanager
def worker(
    app: str, options: list[str], env: dict[str, str], folder: Path, first: list[str] | None = None
) -> Iterator[psutil.Process]:
    """A Celery worker for the block; `first` goes before its command."""
    first = first or []
    command = [
        *first,
        sys.executable,
        "-m",
        "celery",
        "--app",
        app,
        "--quiet",
        "worker",
        "--loglevel",
        "WARNING",
        "--without-gossip",
        "--without-mingle",
        *options,
    ]
    with (folder / "worker.log").open("a") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        sleep(6)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def follow(process: psutil.Process, done: Count, calls: Count, total: int) -> dict[str, float]:
    """CPU of the process and its children per call, from a fifth of the work to its end."""
    deadline = monotonic() + 600
    while done() < total // WARM and monotonic() < deadline:
        sleep(0.05)
    began, cpu, before = utcnow(), cpu_s(process), calls()
    while done() < total and monotonic() < deadline:
        sleep(0.2)
    made = calls() - before
    took = (utcnow() - began).total_seconds()
    return {
        "cpu_ms_per_call": round(1000 * (cpu_s(process) - cpu) / made, 3),
        "calls_per_s": round(made / took, 1),
        "calls_measured": made,
    }


def cpu_s(process: psutil.Process) -> float:
    """User and system time so far, children included."""
    everyone = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in everyone]
    return sum(time.user + time.system for time in times)


if __name__ == "__main__":
    main()
