"""Dispatch: what it costs to open a slice and to tell the workers, whatever the number of agents.

    python -m bench.dispatch --out docs/dispatch.json

For 100 to 100,000 agents that are all due at once: opening the slice (choose, insert, commit) and publishing
one message per run, with Redis near (0 ms) and 2 ms away (a proxy that delays). CPU is that of the
dispatching process. Beside it `run_agent.delay` in a loop, for the sizes where that ends.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from asyncio import open_connection
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import text

from app import migrations
from app.clock import utcnow
from app.db import make_engine
from app.embedded import servers
from tests.chaos.proxy import Proxy
from tests.support.factories import make_agents
from tests.support.program import clean_env

SIZES = (100, 1_000, 10_000, 100_000)
LOOP_MOST = 1_000
"""`delay` in a loop is only measured up to here: with 2 ms to Redis, 100,000 take six minutes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=["slice", "loop"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps({"slice": dispatch_slice, "loop": dispatch_loop}[chosen.child](chosen.sizes[0])))
        return
    result = compare(chosen.sizes, chosen.rounds)
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def compare(sizes: list[int], rounds: int) -> dict[str, Any]:
    """Each size, near and far, in a process of its own so that its memory can be told."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pl-") as name, servers(Path(name) / "servers") as started:
        assert started.database_url
        assert started.redis_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        redis = Redis.from_url(started.redis_url)
        parts = redis.connection_pool.connection_kwargs
        for size in sizes:
            with engine.begin() as connection:
                connection.execute(text("truncate paceline.agents cascade"))
                make_agents(connection, size)
            for far_ms in (0, 2):
                with closing(Proxy(partial(open_connection, "127.0.0.1", parts["port"]))) as proxy:
                    proxy.delay_s = far_ms / 2000  # on each way
                    url = f"redis://:{parts['password']}@127.0.0.1:{proxy.port}/0"
                    env = clean_env(
                        DATABASE_URL=started.database_url,
                        REDIS_URL=url if far_ms else started.redis_url,
                        PACELINE_GATEWAY__BASE_URL="http://127.0.0.1:9/v1",
                        PACELINE_LOG__LEVEL="ERROR",
                        PACELINE_HOME=name,
                    )
                    for way in ("slice", "loop"):
                        if way == "loop" and size > LOOP_MOST:
                            continue
                        found = []
                        for _ in range(rounds):
                            redis.flushall()
                            with engine.begin() as connection:
                                connection.execute(text("truncate paceline.runs cascade"))
                            found.append(child(way, size, env))
                        middle = {k: statistics.median(one[k] for one in found) for k in found[0]}
                        middle["cpu_us_per_agent"] = round(1e6 * middle["cpu_s"] / size, 1)
                        result[f"{size} agents, {far_ms} ms, {way}"] = middle
                        sys.stderr.write(f"{size} {far_ms} ms {way}: {json.dumps(middle)}\n")
        engine.dispose()
    return result


def child(way: str, size: int, env: dict[str, str]) -> dict[str, float]:
    """One measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.dispatch", "--child", way, "--sizes", str(size)],
        env=env,
        check=True,
        stdout=subprocess.PIPE,
        timeout=900,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(work: Callable[[], int], size: int) -> dict[str, float]:
    """CPU, wall and memory of the work, which returns how many messages it sent."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.monotonic()
    sent = work()
    assert sent == size, (sent, size)
    return {
        "cpu_s": round(time.process_time() - cpu, 3),
        "wall_s": round(time.monotonic() - wall, 3),
        "memory_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
    }


def dispatch_slice(size: int) -> dict[str, float]:
    """As `cycles.open` does it."""
    from app.runs.cycles import open_slice  # noqa: PLC0415 (needs the environment of this process)
    from app.settings import CycleSettings  # noqa: PLC0415
    from workers.celery import app  # noqa: PLC0415
    from workers.dispatch import publish_runs  # noqa: PLC0415
    from workers.process import services  # noqa: PLC0415

    app.connection_for_write().connect()
    with services().engine.connect():
        pass
    cycle = CycleSettings(period_s=3600, slice_s=3600)

    def work() -> int:
        with services().engine.begin() as connection:
            opened = open_slice(connection, now=utcnow(), cycle=cycle, capacity=size)
        publish_runs(opened.runs)
        return len(opened.runs)

    return measured(work, size)


def dispatch_loop(size: int) -> dict[str, float]:
    """As people do it."""
    from workers.tasks import run_agent  # noqa: PLC0415

    def work() -> int:
        for number in range(size):
            run_agent.delay(f"a{number}")
        return size

    return measured(work, size)


if __name__ == "__main__":
    main()
