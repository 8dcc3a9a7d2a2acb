"""Memory of a worker: idle, and per call in flight.

    python -m bench.memory --out docs/memory.json

One worker with as many threads as calls are in flight, a gateway that takes 20 s to answer, real embedded
servers. RSS of the worker when it is up, with 1, 100 and 1,000 calls in flight at once, and after them.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app import migrations
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import servers
from app.models import Call
from bench.adhoc import OPEN, run
from bench.pipeline import worker
from tests.support.factories import make_agents
from tests.support.program import clean_env, sandbox_process

IN_FLIGHT = (1, 100, 1_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, nargs="*", default=IN_FLIGHT)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    result = {f"{count} in flight": measure(count) for count in chosen.in_flight}
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(in_flight: int) -> dict[str, Any]:
    """One worker, so many runs of one call each."""
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as name,
        servers(Path(name) / "servers") as started,
        sandbox_process("--unlimited", "--latency", "20", cwd=Path(name)) as gateway,
    ):
        assert started.database_url
        assert started.redis_url
        # Two threads more, for what beat would have sent; each thread has a connection.
        env = clean_env(
            DATABASE_URL=started.database_url,
            REDIS_URL=started.redis_url,
            PACELINE_HOME=name,
            PACELINE_GATEWAY__BASE_URL=f"{gateway}/v1",
            PACELINE_LIMITS__RATE="10000",
            PACELINE_LIMITS__BURST="1000",
            PACELINE_ACTIVITY__COMMENT_PROBABILITY="0",
            PACELINE_WORKER__THREADS=str(in_flight),
            PACELINE_LOG__LEVEL="WARNING",
        )
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        with engine.begin() as connection:
            make_agents(connection, in_flight)
        with worker("workers", ["--concurrency", f"{in_flight}"], env, Path(name)) as process:
            idle, most, held = process.memory_info().rss, 0, 0
            run([sys.executable, "-c", OPEN.format(backlog=in_flight)], env)
            count = select(func.count()).where(Call.status == "in_flight")
            ended = select(func.count()).where(Call.status == "ok")
            deadline = monotonic() + 120
            done = 0
            while done < in_flight and monotonic() < deadline:
                sleep(0.5)
                with engine.connect() as connection:
                    now = connection.execute(count).scalar_one()
                    done = connection.execute(ended).scalar_one()
                if now >= held:
                    held, most = now, process.memory_info().rss
            sleep(2)
            after = process.memory_info().rss
        engine.dispose()
    found = {
        "idle_mb": round(idle / 1e6, 1),
        "in_flight_at_once": held,
        "rss_mb": round(most / 1e6, 1),
        "kb_per_call_in_flight": round((most - idle) / 1e3 / max(1, held), 1),
        "after_mb": round(after / 1e6, 1),
        "answered": done,
    }
    sys.stderr.write(f"{in_flight}: {json.dumps(found)}\n")
    return found


if __name__ == "__main__":
    main()
