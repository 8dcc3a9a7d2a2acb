"""Every page of the dashboard over a large ledger and a large fleet: time and queries.

    python -m bench.pages [--rows 10000000] [--agents 100000] [--out docs/pages.json]

The ledger is that of bench.ledger, beside it ten cycles of runs and a post for every agent. Pages are asked
over HTTP by one client, one after another, from a dashboard in this process.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from app import migrations
from app.clock import monotonic, utcnow
from app.db import make_engine
from app.embedded import servers
from app.runs.services import Services
from app.usage import ranking, rollups
from app.wiring import build
from bench.ledger import fill
from tests.conftest import make_settings
from tests.support.web import Browser, serving

ASKED = 30
PAGES = (
    "/",
    "/usage",
    "/usage?period=week",
    "/usage?period=month",
    "/usage?period=90d",
    "/usage?by=community&period=month",
    "/usage?by=model&period=month",
    "/agents",
    "/agents?search=agent+77",
    "/agents?sort=waited",
    "/agents?sort=cost",
    "/agents?after=a5",
    "/agents?sort=cost&state=active",
    "/agents?search=agent+77&sort=tokens",
    "/usage?metric=tokens&period=week",
    "/feed?state=pending",
    "/agents/a77",
    "/runs",
    "/runs?which=open",
    "/runs?which=came+to+nothing",
    "/feed",
    "/limits",
    "/incidents",
    "/alerts",
    "/audit",
    "/health",
    "/account",
    "/acts/pause",
)
RUNS = text("""
  insert into paceline.runs (id, agent_id, cycle_at, due_at, origin, state, reason, attempt, started_at,
    finished_at)
  select gen_random_uuid(), a.id, at, at + make_interval(secs => 30 * (a.phase / 100000)), 'cycle',
    case when a.phase % 50 = 0 then 'skipped' else 'completed' end,
    case when a.phase % 50 = 0 then 'rate_limited' end, 1, at + interval '31 seconds',
    at + interval '33 seconds'
  from paceline.agents a, generate_series(1, 10) n, lateral (
    select date_trunc('hour', now()) - make_interval(mins => 5 * n) as at) times
""")
POSTS = text("""
  insert into paceline.posts (id, agent_id, community_id, run_id, kind, body, fingerprint, state, created_at)
  select uuidv7(), r.agent_id, a.community_id, r.id, 'regular', 'A post by ' || a.handle,
    md5(r.id::text), 'published', r.finished_at
  from paceline.runs r join paceline.agents a on a.id = r.agent_id
  where r.cycle_at = (select max(cycle_at) from paceline.runs)
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--agents", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder, servers(Path(folder)) as started:
        assert started.database_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        services = build(make_settings(started, "http://127.0.0.1:9/v1", Path(folder)))
        prepare(services, chosen.rows, chosen.agents)
        result = measure(services)
        result = {"rows": chosen.rows, "agents": chosen.agents, **result}
        services.close()
        engine.dispose()
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def prepare(services: Services, rows: int, agents: int) -> None:
    """Fill the database, and roll it up as the workers would."""
    fill(services.engine, rows, agents)
    with services.engine.begin() as connection:
        connection.execute(
            text("""
          update paceline.runs set state = 'completed', finished_at = now(),
            due_at = now() - make_interval(secs => 60 + 86400 * random())
        """)
        )  # the runs that the ledger's calls belong to
        connection.execute(RUNS)
        connection.execute(POSTS)
        connection.execute(
            text("""
          update paceline.agents a set last_run_at = now() - make_interval(secs => a.phase / 1000.0)
        """)
        )
        rollups.roll_up(connection, services.settings.zone)
    ranking.rank(services.engine, utcnow(), services.settings.zone)
    for table in ("ai_usage_hourly", "agents"):
        with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"vacuum full analyze paceline.{table}"))
    with services.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))


def measure(services: Services) -> dict[str, Any]:
    """Ask for every page."""
    queries = []
    event.listen(services.engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    found = {}
    began = utcnow()
    with serving(services) as base:
        browser = Browser(services, base)
        for path in PAGES:
            browser.get(path).raise_for_status()
            queries.clear()
            size = len(browser.get(path).content)
            count, took = len(queries), []
            for _ in range(ASKED):
                start = monotonic()
                browser.get(path)
                took.append((monotonic() - start) * 1000)
            took.sort()
            found[path] = {
                "queries": count,
                "p50_ms": round(statistics.median(took), 1),
                "p95_ms": round(took[int(ASKED * 0.95)], 1),
                "bytes": size,
            }
            print(path, found[path], flush=True)
        browser.close()
    return {"at": began.isoformat(), "asked": ASKED, "pages": found}


if __name__ == "__main__":
    main()
