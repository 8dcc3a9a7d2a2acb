"""A ledger of ten million calls over ninety days: rolling up, dropping a day, every report, and its size.

    python -m bench.ledger --rows 10000000 --agents 1000

On an embedded PostgreSQL with its usual settings. Calls are spread evenly over the days and agents, 2 % are
answered 429. Reports are asked 40 times each; p50 and p95 are in milliseconds, connection included.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from app import migrations
from app.clock import monotonic, utcnow
from app.db import make_engine
from app.embedded import servers
from app.runs.demand import planned_demand
from app.settings import Settings
from app.usage import partitions, rollups
from app.usage.forecast import forecast
from app.usage.latency import latency_between
from app.usage.periods import NAMES, period_start, periods
from app.usage.quotas import tokens_by_agent
from app.usage.reports import Group, Step, breakdown, series, spent_by_community
from tests.support.factories import make_agents

DAYS = 90
ASKED = 40
FILL = text("""
  insert into paceline.ai_request_log (id, run_id, agent_id, step, attempt, request_type, model, status,
    error_code, http_status, tokens_reserved, tokens_input, tokens_output, tokens_used, cost_micros,
    latency_ms, created_at, finished_at)
  select gen_random_uuid(), r.id, r.agent_id, 'post', 1, (array['post', 'comment', 'cross_visit'])[1 + n % 3],
    (array['google/gemini-2.5-flash', 'google/gemini-2.5-flash-lite'])[1 + (n % 3 > 0)::int],
    case when n % 50 = 0 then 'error' else 'ok' end, case when n % 50 = 0 then 'rate_limited' end,
    case when n % 50 = 0 then 429 else 200 end, 1100, 60, 90, 150, 243, 700 + n % 1500,
    cast(:start as timestamptz) + make_interval(secs => :seconds * n / :count),
    cast(:start as timestamptz) + make_interval(secs => 1 + :seconds * n / :count)
  from generate_series(0, :count - 1) n
  join (select id, agent_id, row_number() over (order by id) - 1 as place from paceline.runs) r
    on r.place = n % :agents
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder, servers(Path(folder), valkey=False) as started:
        assert started.database_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        result = measure(engine, chosen.rows, chosen.agents)
        engine.dispose()
    print(json.dumps(result))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(engine: Engine, rows: int, agents: int) -> dict[str, Any]:
    """Fill the ledger, and ask everything of it."""
    settings = Settings()
    zone, now = settings.zone, utcnow()
    fill(engine, rows, agents)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))

    def in_transaction(work: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            with engine.begin() as connection:
                return work(connection)

        return run

    first_s = seconds(in_transaction(lambda c: rollups.roll_up(c, zone)))
    round_s = statistics.median(seconds(in_transaction(lambda c: rollups.roll_up(c, zone))) for _ in range(5))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum full analyze paceline.ai_usage_hourly"))  # filled by days, once
        connection.execute(text("vacuum analyze"))
        size = {
            "ledger_mb_per_million": _size(connection, "ai_request_log%") / (rows / 1e6),
            "rollups_mb": sum(_size(connection, name) for name in ("ai_usage%", "ai_latency%")),
        }
    reports = {
        "periods": lambda c: periods(c, now, zone),
        "hourly": lambda c: series(c, now - timedelta(hours=24), now, Step.HOUR, zone),
    }
    for name in NAMES:
        for group in Group:
            reports[f"{group}, {name}"] = lambda c, n=name, g=group: breakdown(
                c, period_start(n, now, zone), now, g, zone
            )
    month = period_start("this month", now, zone)
    reports |= {
        "latency, this month": lambda c: latency_between(c, month, now),
        "cost by community, this month": lambda c: spent_by_community(c, [month], now, zone),
        "tokens by agent, today": lambda c: tokens_by_agent(c, period_start("today", now, zone), zone),
        "forecast": lambda c: forecast(c, settings.usage, planned_demand(c, settings), now, zone),
    }
    found = {}
    for name, ask in reports.items():
        took = sorted(seconds(in_transaction(ask)) * 1000 for _ in range(ASKED))
        found[name] = {"p50_ms": round(took[ASKED // 2], 1), "p95_ms": round(took[int(ASKED * 0.95)], 1)}
    drop_s = seconds(lambda: partitions.keep(engine, now, zone, DAYS - 3))
    differences = in_transaction(lambda c: len(differences.find_differences(c, zone)))()
    return {
        "rows": rows,
        "agents": agents,
        "days": DAYS,
        "first_roll_up_s": round(first_s, 1),
        "usual_round_s": round(round_s, 3),
        "retention_s": round(drop_s, 3),
        "differences": differences,
        **{name: round(value, 1) for name, value in size.items()},
        "reports": found,
    }


def fill(engine: Engine, rows: int, agents: int) -> None:
    """Day by day, the last one up to now."""
    with engine.begin() as connection:
        make_agents(connection, agents)
        connection.execute(
            text("""
              insert into paceline.runs (id, agent_id, due_at, origin)
              select gen_random_uuid(), id, now(), 'adhoc' from paceline.agents
            """)
        )
        # Several communities, as a fleet of that size has.
        connection.execute(
            text("""
              with made as (insert into paceline.communities (id, name)
                select gen_random_uuid(), 'Place ' || n from generate_series(1, 10) n returning id)
              update paceline.agents a set community_id = p.id
              from (select id, row_number() over () - 1 as place from made) p where p.place = a.phase % 10
            """)
        )
        now = utcnow()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for ago in range(DAYS - 1, 0, -1):
            partitions.make_partition(connection, (midnight - timedelta(days=ago)).date())
    for ago in range(DAYS - 1, -1, -1):
        start = midnight - timedelta(days=ago)
        length = min(timedelta(days=1), now - start).total_seconds()
        count = int(rows / DAYS * length / 86_400)
        given = {"start": start, "seconds": length, "count": count, "agents": agents}
        with engine.begin() as connection:
            connection.execute(FILL, given)
        if ago % 10 == 0:
            sys.stderr.write(f"{ago} days to fill\n")


def seconds(work: Callable[[], Any]) -> float:
    """How long that takes."""
    began = monotonic()
    work()
    return monotonic() - began


def _size(connection: Any, pattern: str) -> float:
    query = text("""
      select coalesce(sum(pg_total_relation_size(c.oid)), 0) / 1e6 from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'paceline' and c.relkind = 'r' and c.relname like :pattern
    """)
    return float(connection.execute(query, {"pattern": pattern}).scalar_one())


if __name__ == "__main__":
    main()
