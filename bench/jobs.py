"""Cost of each periodic job over a day's ledger at the real rate, and how long Redis stands still for it.

    python -m bench.jobs --agents 100 1000 10000 100000 --out docs/jobs.json

The ledger holds the last 24 hours of 2.37 calls per agent and cycle of 5 minutes (of 100,000 agents the last
three hours), in a time zone whose day is nearly over, and is rolled up. Every agent has a counter in Redis.
Each job is done three times: the median, and its share of the interval in which beat asks for it. The stall
is the longest command of the job in Redis' own slow log, which counts execution and no network.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app import migrations, retention
from app.alerts import watch
from app.clock import monotonic, utcnow
from app.db import make_engine
from app.embedded import servers
from app.runs import cycles, rescue
from app.runs.services import Services
from app.runs.upkeep import reconcile_limits
from app.usage import ranking, rollups
from app.wiring import build
from beat_schedule import BEAT_SCHEDULE
from bench.ledger import FILL
from tests.conftest import make_settings
from tests.support.factories import make_agents

CALLS_PER_DAY = 2.37 * 288
TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="*", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    for agents in chosen.agents:
        with tempfile.TemporaryDirectory(prefix="pl-") as folder, servers(Path(folder)) as started:
            assert started.database_url
            engine = make_engine(started.database_url)
            migrations.upgrade(engine)
            engine.dispose()
            services = build(
                make_settings(started, "http://127.0.0.1:9/v1", Path(folder), timezone=late_in_the_day())
            )
            found[str(agents)] = measure(services, agents)
            services.close()
        sys.stderr.write(f"{agents} agents: {json.dumps(found[str(agents)])}\n")
        if chosen.out:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def late_in_the_day() -> str:
    """A time zone in which it is after 23 o'clock."""
    behind = (utcnow().hour - 23) % 24
    return f"Etc/GMT+{behind}" if behind <= 12 else f"Etc/GMT-{24 - behind}"


def measure(services: Services, agents: int) -> dict[str, Any]:
    """One size."""
    rows = fill(services, agents)
    intervals = {entry["task"]: float(entry["schedule"]) for entry in BEAT_SCHEDULE.values()}
    services.admission.state()  # warms up
    jobs: dict[str, Callable[[], Any]] = {
        "limits.reconcile": lambda: reconcile_limits(services),
        "usage.roll_up": lambda: _in_transaction(
            services, lambda c: rollups.roll_up(c, services.settings.zone)
        ),
        "usage.roll_up, the first of an hour": lambda: _first_of_an_hour(services),
        "usage.rank": lambda: ranking.rank(services.engine, utcnow(), services.settings.zone),
        "cycles.open": lambda: _open(services, agents),
        "runs.rescue": lambda: _in_transaction(
            services,
            lambda c: rescue.rescue(c, patience=timedelta(seconds=60), call_deadline=timedelta(seconds=60)),
        ),
        "alerts.watch": lambda: watch.watch(services.engine, services.settings, None),
        "history.forget": lambda: retention.forget(services.engine, services.settings.kept, utcnow()),
    }
    found: dict[str, Any] = {"rows": rows, "minute_of_the_hour": utcnow().minute, "jobs": {}}
    for name, job in jobs.items():
        spent, stall = [], 0.0
        for _ in range(TIMES):
            with longest_command(services) as longest:
                began = monotonic()
                job()
                spent.append(monotonic() - began)
            stall = max(stall, longest[0])
        median = statistics.median(spent)
        found["jobs"][name] = {
            "s": round(median, 3),
            "share_of_interval": round(median / intervals[name.split(",")[0]], 4),
            "redis_stall_ms": round(stall, 1),
        }
    services.redis.flushall()
    with longest_command(services) as longest:
        began = monotonic()
        services.admission.state()
        found["warm_up_after_flushall_s"] = round(monotonic() - began, 3)
    found["warm_up_redis_stall_ms"] = round(longest[0], 1)
    return found


def fill(services: Services, agents: int) -> int:
    """Agents, and the calls of the day so far; returns how many."""
    zone, now = services.settings.zone, utcnow()
    with services.engine.begin() as connection:
        make_agents(connection, agents)
        connection.execute(
            text("""
          insert into paceline.runs (id, agent_id, due_at, origin, state, finished_at)
          select gen_random_uuid(), id, now(), 'adhoc', 'completed', now() from paceline.agents
        """)
        )
    hours = 24 if agents <= 10_000 else 3
    start = now - timedelta(hours=hours)
    rows = int(agents * CALLS_PER_DAY * hours / 24)
    with services.engine.begin() as connection:
        given = {"start": start, "seconds": hours * 3_600.0, "count": rows, "agents": agents}
        connection.execute(FILL, given)
    with services.engine.begin() as connection:
        rollups.roll_up(connection, zone)
    newest = {"start": utcnow() - timedelta(minutes=3), "seconds": 180.0, "agents": agents}
    with services.engine.begin() as connection:  # the last minutes are read as calls
        connection.execute(FILL, newest | {"count": max(1, int(agents * CALLS_PER_DAY / 480))})
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))
    return rows


def _in_transaction(services: Services, work: Callable[..., Any]) -> Any:
    with services.engine.begin() as connection:
        return work(connection)


def _open(services: Services, agents: int) -> Any:
    with services.engine.begin() as connection:
        return cycles.open_slice(connection, now=utcnow(), cycle=services.settings.cycle, capacity=agents)


def _first_of_an_hour(services: Services) -> Any:
    with services.engine.begin() as connection:
        connection.execute(text("update paceline.usage_state set rolled_at = rolled_at - interval '1 hour'"))
        return rollups.roll_up(connection, services.settings.zone)


@contextmanager
def longest_command(services: Services) -> Iterator[list[float]]:
    """Yield a list; after the block its only item is the milliseconds of the longest command in Redis."""
    longest = [0.0]
    services.redis.config_set("slowlog-log-slower-than", 200)
    services.redis.config_set("slowlog-max-len", 10_000)
    services.redis.slowlog_reset()
    yield longest
    longest[0] = max((one["duration"] for one in services.redis.slowlog_get(10_000)), default=0) / 1_000


if __name__ == "__main__":
    main()
