"""A year of a fleet in minutes: what tables weigh, how much of it is bloat, what `doctor` had foreseen.

    python -m bench.year --agents 10 --days 365 --out docs/year.json

The clock is moved instead of waited for. Each day has 288 cycles. A cycle of an agent is a run (inserted,
taken, ended), its agent's row, 2.37 calls (inserted, closed), a post, 0.8 comments and two votes: as many
statements on a row as the program makes. At the end of a day its calls are summed up and frozen, and
retention does its round with the settings as they come. Autovacuum looks once a second, so a few times in a
simulated day. It looks at a real fleet 1,440 times a day, so this bloat is more than a real fleet has. At the
end agents have turns on top of that history: each statement's p95, and each page's over HTTP.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from app import migrations, retention
from app.clock import monotonic, utcnow
from app.db import make_engine
from app.embedded import servers
from app.embedded.postgres import admin_url
from app.runs.execute import execute
from app.runs.services import Services
from app.settings import Settings
from app.statements import Statement
from app.usage import partitions, rollups
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run
from tests.support.sandbox import run_sandbox
from tests.support.web import Browser, serving

UTC = ZoneInfo("UTC")
FORESEEN_AT = (14, 60, 120, 240)
"""Days after which `doctor` is asked where it ends."""
TURNS, ASKED = 300, 30
PAGES = (
    "/",
    "/usage?period=month",
    "/agents",
    "/agents/a1",
    "/runs",
    "/feed",
    "/limits",
    "/incidents",
    "/alerts",
    "/audit",
    "/health",
    "/application",
)
DAY = text("""
do $$
declare
  day timestamptz := current_setting('bench.day');
  at timestamptz;
  head text;
begin
  for cycle in 0..287 loop
    at := day + cycle * interval '5 minutes';
    head := lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0');
    delete from bench_turn;
    insert into bench_turn
      select a.id as agent_id, a.community_id, (head || substr(md5(random()::text), 1, 20))::uuid as run_id,
        row_number() over (order by a.id) as n
      from paceline.agents a;
    insert into paceline.runs (id, agent_id, cycle_at, due_at, origin, state, published_at, created_at)
      select run_id, agent_id, at, at, 'cycle', 'queued', at, at from bench_turn;
    update paceline.runs r set state = 'running', attempt = 1, lease_until = at, worker = 'worker1@host',
      started_at = at from bench_turn t where r.id = t.run_id;
    insert into paceline.ai_request_log (id, run_id, agent_id, step, attempt, request_type, model, status,
      tokens_reserved, cost_reserved, created_at)
      select gen_random_uuid(), run_id, agent_id, 'post', 1, 'post', 'google/gemini-2.5-flash', 'in_flight',
        1100, 2600, at + make_interval(secs => 10 * k)
      from bench_turn, generate_series(0, 2) k where k < 2 or (n + cycle) % 8 < 3;
    update paceline.ai_request_log set status = 'ok', http_status = 200, tokens_input = 60,
      tokens_output = 90, tokens_used = 150, cost_micros = 243, latency_ms = 900, finished_at = created_at
      where created_at >= at and created_at < at + interval '5 minutes';
    insert into paceline.posts (id, agent_id, community_id, run_id, kind, body, created_at)
      select run_id, agent_id, community_id, run_id, 'regular', repeat('A post of words. ', 7) || run_id, at
      from bench_turn;
    insert into paceline.comments (id, post_id, agent_id, run_id, slot, body, created_at)
      select (head || substr(md5(random()::text), 1, 20))::uuid, t.run_id, o.agent_id, o.run_id, 0,
        repeat('A comment. ', 9) || t.run_id, at
      from bench_turn t join bench_turn o on o.n = 1 + t.n % (select max(n) from bench_turn) where (t.n +
      cycle) % 5 <> 0;
    insert into paceline.votes (id, agent_id, post_id, run_id, value, reaction, created_at)
      select (head || substr(md5(random()::text), 1, 20))::uuid, o.agent_id, t.run_id, o.run_id, 1, 'nice', at
      from bench_turn t join bench_turn o on o.n in (1 + t.n % (select max(n) from bench_turn),
        1 + (t.n + 1) % (select max(n) from bench_turn));
    update paceline.runs r set state = 'completed', lease_until = null, finished_at = at + interval '1 minute'
      from bench_turn t where r.id = t.run_id;
    update paceline.agents set last_run_at = at;
    commit;
  end loop;
end $$
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as folder,
        servers(Path(folder)) as started,
        run_sandbox() as sandbox,
    ):
        assert started.database_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        settings = make_settings(started, sandbox.url, Path(folder))
        set_up(admin_url(Path(folder) / "postgres"))
        found = live(engine, settings, chosen.agents, chosen.days)
        engine.dispose()
        services = build(settings)
        for what, measure in (("ms_p95_of_statements", turns), ("ms_p95_of_pages", pages)):
            if chosen.out:  # should what follows fail
                chosen.out.write_text(json.dumps(found, indent=1) + "\n")
            found[what] = measure(services)
        services.close()
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def set_up(url: str) -> None:
    """Let autovacuum keep up with the moved clock; commits wait for no disk, because no time is measured."""
    engine = make_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("alter system set autovacuum_naptime = '1s'"))
        connection.execute(text("alter system set synchronous_commit = off"))
        connection.execute(text("select pg_reload_conf()"))
    engine.dispose()


def live(engine: Engine, settings: Settings, agents: int, days: int) -> dict[str, Any]:
    """Live so many days; return tables with their sizes, and what was foreseen."""
    with engine.begin() as connection:
        make_agents(connection, agents)
        connection.execute(
            text("create unlogged table bench_turn (agent_id uuid, community_id uuid, run_id uuid, n bigint)")
        )
    first = utcnow().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days + 1)
    keep = settings.kept
    foreseen, began, ended = {}, monotonic(), first
    for number in range(days):
        day = first + timedelta(days=number)
        ended = day + timedelta(days=1)
        partitions.keep(engine, day, UTC, keep_days=int(keep.calls_days))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("select set_config('bench.day', :day, false)"), {"day": day.isoformat()})
            connection.execute(DAY)
        with engine.begin() as connection:
            rollups.sum_up(connection, UTC, day, ended)
            rollups.freeze(connection, UTC, ended)
            rollups.set_watermark(connection, UTC, ended, ended)
        retention.forget(engine, keep, ended, seconds=600)
        if number + 1 in FORESEEN_AT:
            foreseen[str(number + 1)] = _foresee(engine, settings, ended)
        if number % 30 == 29:
            sys.stderr.write(f"{number + 1} days in {monotonic() - began:.0f} s\n")
    with engine.connect() as connection:
        tables = {one.table: one.size for one in retention.sizes(connection, settings, ended) if one.rows > 0}
    total = sum(tables.values())
    for one in foreseen.values():
        one["off_by"] = round(one["ends_at"] / total - 1, 3) if one["ends_at"] else None
    return {
        "agents": agents,
        "days": days,
        "bytes": total,
        "bytes_of_table": tables,
        "foreseen_after_days": foreseen,
        "bloat": _bloat(engine),
        "bytes_per_agent_and_day_at_first": round(_first_rate(foreseen, agents)),
    }


def turns(services: Services) -> dict[str, float]:
    """Give turns; return each statement's p95 in milliseconds, by its beginning."""
    plain, spent = Statement.execute, defaultdict[str, list[float]](list)

    def timed(statement: Statement, connection: Any, **values: Any) -> Any:
        began = monotonic()
        try:
            return plain(statement, connection, **values)
        finally:
            spent[name_of(statement.sql)].append((monotonic() - began) * 1_000)

    Statement.execute = timed  # type: ignore[method-assign, assignment]
    try:
        for number in range(TURNS):
            with services.engine.begin() as connection:
                query = text("select id from paceline.agents order by id")
                agents = connection.execute(query).scalars().all()
                run_id = make_run(connection, agents[number % len(agents)])
            execute(services, run_id)
    finally:
        Statement.execute = plain  # type: ignore[method-assign]
    return {name: round(p95(found), 2) for name, found in sorted(spent.items())}


def name_of(sql: str) -> str:
    """The tables that a statement names, in order."""
    found = re.findall(r"(insert into|update|from|join) paceline\.(\w+)", sql, re.I)
    return ", ".join(dict.fromkeys(f"{verb.lower()} {table}" for verb, table in found))[:110]


def p95(found: list[float]) -> float:
    """The 95th of a hundred."""
    return statistics.quantiles(found, n=20)[-1] if len(found) > 1 else found[0]


def pages(services: Services) -> dict[str, float]:
    """The p95 of each page over HTTP, in milliseconds."""
    found = {}
    with serving(services) as base:
        browser = Browser(services, base)
        for path in PAGES:
            spent = []
            for _ in range(ASKED):
                began = monotonic()
                assert browser.get(path).status_code == 200, path
                spent.append((monotonic() - began) * 1_000)
            found[path] = round(p95(spent), 1)
        browser.close()
    return found


def _foresee(engine: Engine, settings: Settings, now: datetime) -> dict[str, Any]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze"))
        found = retention.forecast(retention.sizes(connection, settings, now), settings.kept)
    return {
        "bytes": found.size,
        "per_day": round(found.per_day),
        "ends_at": found.ends_at and round(found.ends_at),
    }


def _first_rate(foreseen: dict[str, Any], agents: int) -> float:
    return next(iter(foreseen.values()))["per_day"] / agents if foreseen else 0.0


def _bloat(engine: Engine) -> dict[str, float]:
    """How many times as large a table with its indexes is as its copy."""
    found = {}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in ("runs", "agents", "votes", "posts", "comments"):
            before = _size(connection, name)
            connection.execute(text(f"vacuum full paceline.{name}"))
            found[name] = round(before / _size(connection, name), 2)
    return found


def _size(connection: Connection, name: str) -> int:
    return int(connection.execute(text(f"select pg_total_relation_size('paceline.{name}')")).scalar_one())


if __name__ == "__main__":
    main()
