"""CPU of a call as a stranger would measure it: settings as they come, at a pace, seen from outside.

    python -m bench.cpu --rounds 5 --out docs/cpu.json

Two of Paceline's workers as `celery -A workers worker` starts them (logs, events and all), a gateway that
takes half a second, 32 calls a second, nothing pinned to a core. CPU is what the kernel counts for the
threads of the worker processes (/proc/PID/task/*/schedstat) between two moments, over the calls that the
gateway saw between them. The others go at the same pace against the same gateway, with the settings that
serve them best: the bare client with 16 threads, an asyncio script with Paceline's limiter, a Celery fleet
with an ORM and a polled counter. Rounds alternate; medians, and the ratio to the bare client of the same
round with its range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil

from app import migrations
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import Servers, servers
from bench.pipeline import BARE
from tests.support.factories import make_agents
from tests.support.program import clean_env, sandbox_process

RATE, LATENCY_S, THREADS = 32, 0.5, 16
SETTLED_S, MEASURED_S = 10, 30
Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rounds = [one_round() for _ in range(chosen.rounds)]
    each = {}
    for name in rounds[0]:
        ratios = sorted(one[name]["cpu_ms"] / one[BARE]["cpu_ms"] for one in rounds)
        times = sorted(one[name]["cpu_ms"] for one in rounds)
        each[name] = {
            "cpu_ms": round(statistics.median(times), 2),
            "cpu_ms_of_rounds": [round(t, 2) for t in times],
            "over_bare": round(statistics.median(ratios), 2),
            "over_bare_of_rounds": [round(ratio, 2) for ratio in ratios],
            "calls_per_s": round(statistics.median(one[name]["calls_per_s"] for one in rounds), 1),
        }
    result = {"cores": os.cpu_count(), "rate": RATE, "latency_s": LATENCY_S, "each": each}
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def one_round() -> dict[str, Measured]:
    """All of them, one after the other, on servers of their own."""
    found = {}
    for name, begin in CONTENDERS.items():
        with (
            tempfile.TemporaryDirectory(prefix="pl-") as folder,
            servers(Path(folder) / "servers") as started,
            sandbox_process("--unlimited", "--latency", f"{LATENCY_S:g}", cwd=Path(folder)) as gateway,
        ):
            env = clean_env(
                DATABASE_URL=started.database_url or "",
                REDIS_URL=started.redis_url or "",
                GATEWAY_URL=f"{gateway}/v1",
                NAIVE_RATE=str(RATE),
                PACELINE_HOME=folder,
                PACELINE_GATEWAY__BASE_URL=f"{gateway}/v1",
                PACELINE_LIMITS__RATE=str(RATE),
            )
            with begin(Path(folder), started, env) as processes:
                found[name] = follow(processes, gateway)
        sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
    return found


def follow(processes: list[int], gateway: str) -> Measured:
    """CPU per call of these processes and their children, when they have settled."""
    sleep(SETTLED_S)
    began, calls, cpu = monotonic(), seen(gateway), cpu_ns(processes)
    sleep(MEASURED_S)
    made, used, took = seen(gateway) - calls, cpu_ns(processes) - cpu, monotonic() - began
    return {"cpu_ms": used / made / 1e6, "calls_per_s": made / took}


def seen(gateway: str) -> int:
    """How many requests the gateway saw."""
    text = httpx2.get(f"{gateway}/sandbox/requests", timeout=60, trust_env=False).text
    return len(text.splitlines())


def cpu_ns(processes: list[int]) -> int:
    """Return what the kernel counted for all their threads, and those of their children."""
    family = [
        p for pid in processes for p in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    return sum(
        int(task.read_text().split()[0])
        for process in family
        for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    )


@contextmanager
def running(folder: Path, env: dict[str, str], *commands: list[str]) -> Iterator[list[int]]:
    """Processes for the block, their output in files, as it would be."""
    with ExitStack() as stack:
        started = []
        for number, command in enumerate(commands):
            log = stack.enter_context((folder / f"{number}.log").open("w"))
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        try:
            yield [process.pid for process in started]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)


def module(name: str, *arguments: str) -> list[str]:
    """A module of ours as a command."""
    return [sys.executable, "-m", name, *arguments]


@contextmanager
def paceline(folder: Path, started: Servers, env: dict[str, str]) -> Iterator[list[int]]:
    """Two workers as they come, and a queue that is never empty."""
    engine = make_engine(started.database_url or "")
    migrations.upgrade(engine)
    runs = RATE * (SETTLED_S + MEASURED_S + 20)
    with engine.begin() as connection:
        make_agents(connection, runs)
    engine.dispose()
    publish = (
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
    worker = module("celery", "--app", "workers", "worker", "--without-gossip", "--without-mingle")
    with running(folder, env, [*worker, "-n", "one@bench"], [*worker, "-n", "two@bench"]) as processes:
        subprocess.run([sys.executable, "-c", publish], env=env, check=True, timeout=120)
        yield processes


@contextmanager
def naive(folder: Path, started: Servers, env: dict[str, str]) -> Iterator[list[int]]:
    """The program that people write first, with threads and without asking connections whether they live."""
    runs = RATE * (SETTLED_S + MEASURED_S + 20)
    make = (
        "from bench.naive import *\n"
        "from sqlalchemy import text\n"
        "with engine.begin() as c: c.execute(text('create schema if not exists naive'))\n"
        "Base.metadata.create_all(engine)\n"
        "with session() as db:\n"
        f"    db.add_all(Agent(handle=f'a{{n}}', persona='You like load.') for n in range({runs}))\n"
        "    db.commit()\n"
        f"for n in range({runs}): run.delay(f'a{{n}}')\n"
    )
    subprocess.run([sys.executable, "-c", make], env=env, check=True, timeout=120)
    worker = module(
        "celery",
        "--app",
        "bench.naive",
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        str(THREADS),
        "--without-gossip",
        "--without-mingle",
        "-E",
    )
    with running(folder, env, [*worker, "-n", "one@bench"], [*worker, "-n", "two@bench"]) as processes:
        yield processes


def script(name: str, many: str) -> "Callable[[Path, Servers, dict[str, str]], object]":
    """A script that calls at the pace until it is stopped."""

    @contextmanager
    def begin(folder: Path, _: Servers, env: dict[str, str]) -> Iterator[list[int]]:
        calls = RATE * (SETTLED_S + MEASURED_S + 60)
        command = module(name, "--calls", str(calls), many, str(THREADS + 4), "--pace", str(RATE))
        with running(folder, env, command) as processes:
            yield processes

    return begin


CONTENDERS = {
    BARE: script("bench.bare_client", "--threads"),
    "Paceline": paceline,
    "asyncio script, same limiter": script("bench.plain_asyncio", "--tasks"),
    "Celery, ORM, polled counter": naive,
}

if __name__ == "__main__":
    main()
