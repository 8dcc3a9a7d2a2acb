"""How soon an agent that a person starts begins, behind a backlog of scheduled runs.

    python -m bench.adhoc --out docs/adhoc.json

Real embedded servers, the workers that `paceline up` starts (one for everything, one small one for what
people start), a gateway with a second of latency, a cap of 4 calls/s that the backlog uses up. Agents are
started one after another with `run_agent.delay`; from there to when a worker has taken the run, and to when
its first call is booked.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select, text

from app import migrations
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import servers
from app.models import Call, Run
from bench.pipeline import worker
from tests.support.factories import make_agents
from tests.support.program import clean_env, sandbox_process

BACKLOGS = (0, 1_000, 100_000)
OPEN = """
from app.clock import utcnow
from app.runs.cycles import open_slice
from app.settings import CycleSettings
from workers.dispatch import publish_runs
from workers.process import services
cycle = CycleSettings(slice_s=3600, period_s=3600)
with services().engine.begin() as connection:
    opened = open_slice(connection, now=utcnow(), cycle=cycle, capacity={backlog})
publish_runs(opened.runs)
"""
START = """
from app.clock import utcnow
from workers.tasks import run_agent
asked = utcnow()
print(run_agent.delay('a{number}').id, asked.isoformat())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backlogs", type=int, nargs="*", default=BACKLOGS)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    result = {f"backlog {size}": measure(size, chosen.starts) for size in chosen.backlogs}
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(backlog: int, starts: int) -> dict[str, Any]:
    """Start so many agents, one every two seconds, behind that backlog."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pl-")))
        started = stack.enter_context(servers(folder / "servers"))
        gateway = stack.enter_context(sandbox_process("--unlimited", "--latency", "1", cwd=folder))
        assert started.database_url
        assert started.redis_url
        env = clean_env(
            DATABASE_URL=started.database_url,
            REDIS_URL=started.redis_url,
            PACELINE_HOME=str(folder),
            PACELINE_GATEWAY__BASE_URL=f"{gateway}/v1",
            PACELINE_LOG__LEVEL="WARNING",
        )
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        with engine.begin() as connection:
            make_agents(connection, max(backlog, starts))
        if backlog:
            run([sys.executable, "-c", OPEN.format(backlog=backlog)], env)
        express = ["--queues", "adhoc,maintenance", "--concurrency", "8", "--hostname", "express@bench"]
        stack.enter_context(worker("workers", express, env, folder))
        stack.enter_context(worker("workers", ["--hostname", "all@bench"], env, folder))
        sleep(10)  # until the line for permits is as long as it gets
        taken, called = [], []
        for number in range(starts):
            said = run([sys.executable, "-c", START.format(number=number)], env).split()
            run_id, asked = said[0], datetime.fromisoformat(said[1])
            deadline = monotonic() + 60
            first = None
            while first is None and monotonic() < deadline:
                sleep(0.05)
                first = first_call(engine, run_id)
            with engine.connect() as connection:
                begun = connection.execute(select(Run.started_at).where(Run.id == run_id)).scalar_one()
            taken.append((begun - asked).total_seconds())
            called.append((first - asked).total_seconds() if first else 60.0)
            sleep(1)
        with engine.connect() as connection:
            left = connection.execute(select(func.count()).where(Run.state == "queued")).scalar_one()
            served = connection.execute(text("select count(*) from paceline.ai_request_log")).scalar_one()
        engine.dispose()
    found = {
        "starts": starts,
        "taken_s_median": round(statistics.median(taken), 3),
        "taken_s_most": round(max(taken), 3),
        "first_call_booked_s_median": round(statistics.median(called), 3),
        "first_call_booked_s_most": round(max(called), 3),
        "still_queued": left,
        "calls_meanwhile": served,
    }
    sys.stderr.write(f"backlog {backlog}: {json.dumps(found)}\n")
    return found


def run(command: list[str], env: dict[str, str]) -> str:
    """A process to its end; what it printed."""
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout


def first_call(engine: Engine, run_id: str) -> Any:
    """When the run's first call got its row, or None."""
    with engine.connect() as connection:
        return connection.execute(select(func.min(Call.created_at)).where(Call.run_id == run_id)).scalar_one()


if __name__ == "__main__":
    main()
