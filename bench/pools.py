"""Worker pools: the same runs with as many in hand, on threads, on prefork, on gevent.

    python -m bench.pools --runs 1200 --in-hand 32 --rounds 3

Real embedded servers, two real workers, the sandbox gateway with 1 s latency and no cap of its own.
Every run makes one call. CPU and memory (PSS: shared pages are divided among who shares them) are those of
the workers with all their children; rounds alternate, and the middle one of each pool counts.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, func, select, text

from app import migrations
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import servers
from app.models import Call, Run
from app.runs.states import TERMINAL
from tests.support.factories import make_agents
from tests.support.program import sandbox_process

POOLS = {"threads": "threads", "prefork": "processes", "gevent": "gevent"}
"""By the names that Celery takes: it reads `prefork` on the command line as nothing said."""
WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1200)
    parser.add_argument("--in-hand", type=int, default=32, help="by both workers together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {pool: [] for pool in POOLS}
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        for _ in range(chosen.rounds):
            for pool in POOLS:
                found = measure(Path(folder), pool, chosen.runs, chosen.in_hand // WORKERS)
                sys.stderr.write(f"{pool}: {json.dumps(found)}\n")
                rounds[pool].append(found)
    middle = {
        pool: {name: statistics.median(one[name] for one in found) for name in found[0]}
        for pool, found in rounds.items()
    }
    result = {"runs": chosen.runs, "in_hand": chosen.in_hand, "rounds": chosen.rounds, "median": middle}
    print(json.dumps(result))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, pool: str, runs: int, concurrency: int) -> dict[str, float]:
    """One round of one pool."""
    with (
        servers(folder / "servers") as started,
        sandbox_process("--unlimited", "--latency", "1", cwd=folder) as gateway,
    ):
        assert started.database_url
        assert started.redis_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        with engine.begin() as connection:
            make_agents(connection, runs)
            connection.execute(text("truncate paceline.runs, paceline.ai_request_log cascade"))
        env = {
            **os.environ,
            "DATABASE_URL": started.database_url,
            "REDIS_URL": started.redis_url,
            "PACELINE_HOME": str(folder),
            "PACELINE_GATEWAY__BASE_URL": f"{gateway}/v1",
            "PACELINE_LIMITS__RATE": "10000",
            "PACELINE_LIMITS__BURST": "1000",
            "PACELINE_ACTIVITY__COMMENT_PROBABILITY": "0",
            "PACELINE_ACTIVITY__REACTION_SLOTS": "0",
            # A child of prefork does one thing at a time, and needs no more connections than that.
            "PACELINE_WORKER__THREADS": "1" if pool == "prefork" else str(concurrency),
        }
        with workers(pool, concurrency, env, folder) as processes:
            sleep(8)
            idle = usage(processes)
            enqueue = (
                f"from workers.tasks import run_agent\nfor n in range({runs}): run_agent.delay(f'a{{n}}')"
            )
            subprocess.run([sys.executable, "-c", enqueue], env=env, check=True)
            until = monotonic() + 300
            while count_ended(engine) < runs and monotonic() < until:
                sleep(0.25)
            busy = usage(processes)
            found = figures(engine, runs)
        engine.dispose()
    return found | {
        "cpu_ms_per_call": round(1000 * (busy["cpu_s"] - idle["cpu_s"]) / runs, 2),
        "pss_mb_idle": round(idle["pss_mb"]),
        "pss_mb_busy": round(busy["pss_mb"]),
        "processes": busy["processes"],
    }


@contextmanager
def workers(pool: str, concurrency: int, env: dict[str, str], folder: Path) -> Iterator[list[psutil.Process]]:
    """Workers that run for the block."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "--app",
        "workers",
        "--quiet",
        "worker",
        "--pool",
        POOLS[pool],
        "--concurrency",
        str(concurrency),
        "--without-gossip",
        "--without-mingle",
        "--loglevel=WARNING",
    ]
    with (folder / f"{pool}.log").open("a") as log:
        started = [
            subprocess.Popen([*command, f"--hostname=w{n}@bench"], env=env, stdout=log, stderr=log)
            for n in range(WORKERS)
        ]
        try:
            yield [psutil.Process(process.pid) for process in started]
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait(60)


def usage(processes: list[psutil.Process]) -> dict[str, float]:
    """CPU so far and memory now, children included."""
    everyone = [child for process in processes for child in (process, *process.children(recursive=True))]
    times = [process.cpu_times() for process in everyone]
    return {
        "cpu_s": sum(time.user + time.system for time in times),
        "pss_mb": sum(process.memory_full_info().pss for process in everyone) / 1e6,
        "processes": len(everyone),
    }


def count_ended(engine: Engine) -> int:
    """Runs in a terminal state."""
    with engine.connect() as connection:
        query = select(func.count()).where(Run.state.in_(TERMINAL))
        return connection.execute(query).scalar_one()


def figures(engine: Engine, runs: int) -> dict[str, Any]:
    """From the ledger: how many calls were answered, how fast."""
    took = func.extract("epoch", func.max(Call.finished_at) - func.min(Call.created_at))
    with engine.connect() as connection:
        calls, seconds = connection.execute(select(func.count(), took).where(Call.status == "ok")).one()
    return {"calls": calls, "lost": runs - calls, "calls_per_s": round(calls / float(seconds), 2)}


if __name__ == "__main__":
    main()
