"""Costs that grow with the fleet and the ledger, and those that do not: a cycle, pages, reports.

    python -m bench.growth --out docs/growth.json

Agents and rows of the ledger grow together: queries and milliseconds of opening a cycle's slices, of pages
over HTTP, of reports. Linear is what is done for each agent or call; a page should be flat.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app import migrations
from app.clock import cycle_start, monotonic, utcnow
from app.db import make_engine
from app.embedded import servers
from app.runs.cycles import open_slice
from app.runs.demand import planned_demand
from app.runs.services import Services
from app.settings import CycleSettings
from app.usage import rollups
from app.usage.forecast import forecast
from app.usage.periods import period_start, periods
from app.usage.reports import Group, breakdown
from app.wiring import build
from bench.pages import prepare
from tests.conftest import make_settings
from tests.support.web import Browser, serving

SIZES = ((100, 100_000), (10_000, 1_000_000), (100_000, 10_000_000))
PAGES = ("/", "/usage?period=week", "/agents", "/agents/a77", "/runs", "/limits")
ASKED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", help="agents:rows", default=[f"{a}:{r}" for a, r in SIZES])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    result: dict[str, Any] = {}
    for size in chosen.sizes:
        agents, rows = (int(part) for part in size.split(":"))
        result[f"{agents} agents, {rows} rows"] = measure(agents, rows)
        sys.stderr.write(f"{size}: {json.dumps(result[f'{agents} agents, {rows} rows'])}\n")
        if chosen.out:  # what there is, should a larger size not end
            chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measure(agents: int, rows: int) -> dict[str, Any]:
    """One size, on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder, servers(Path(folder)) as started:
        assert started.database_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        services = build(make_settings(started, "http://127.0.0.1:9/v1", Path(folder)))
        prepare(services, rows, agents)
        queries: list[str] = []
        event.listen(services.engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
        found = {
            "cycle": cycle(services, queries, agents),
            "reports": reports(services, queries),
            "pages": pages(services, queries),
        }
        services.close()
        engine.dispose()
    return found


def cycle(services: Services, queries: list[str], agents: int) -> dict[str, float]:
    """Open the ten slices of a cycle to come, without keeping them, and sum the ledger up once."""
    settings = CycleSettings()
    begin = cycle_start(utcnow(), timedelta(seconds=settings.period_s)) + timedelta(days=1)
    queries.clear()
    cpu, wall, runs = time.process_time(), monotonic(), 0
    with services.engine.connect() as connection:
        for number in range(settings.slices):
            now = begin + timedelta(seconds=number * settings.slice_length_s)
            runs += len(open_slice(connection, now=now, cycle=settings, capacity=agents).runs)
    opened = {
        "runs": runs,
        "queries": len(queries),
        "cpu_ms": round(1000 * (time.process_time() - cpu), 1),
        "wall_ms": round(1000 * (monotonic() - wall), 1),
    }
    wall = monotonic()
    with services.engine.begin() as connection:
        rollups.roll_up(connection, services.settings.zone)
    return opened | {"roll_up_ms": round(1000 * (monotonic() - wall), 1)}


def reports(services: Services, queries: list[str]) -> dict[str, dict[str, float]]:
    """Reports of the command line and the pages."""
    now, zone = utcnow(), services.settings.zone
    week = period_start("week", now, zone)
    asked: dict[str, Callable[[Any], Any]] = {
        "usage": lambda connection: periods(connection, now, zone),
        "usage by model, week": lambda connection: breakdown(connection, week, now, Group.MODEL, zone),
        "forecast": lambda connection: forecast(
            connection, services.settings.usage, planned_demand(connection, services.settings), now, zone
        ),
    }
    return {name: timed(services, queries, report) for name, report in asked.items()}


def timed(services: Services, queries: list[str], report: Callable[[Any], Any]) -> dict[str, float]:
    """Queries and the median time of one report."""
    took = []
    for _ in range(ASKED):
        queries.clear()
        start = monotonic()
        with services.engine.connect() as connection:
            report(connection)
        took.append(1000 * (monotonic() - start))
    return {"queries": len(queries), "p50_ms": round(statistics.median(took), 1)}


def pages(services: Services, queries: list[str]) -> dict[str, dict[str, float]]:
    """Pages, asked over HTTP."""
    found = {}
    with serving(services) as base:
        browser = Browser(services, base)
        for path in PAGES:
            browser.get(path).raise_for_status()
            took = []
            for _ in range(ASKED):
                queries.clear()
                start = monotonic()
                browser.get(path)
                took.append(1000 * (monotonic() - start))
            found[path] = {"queries": len(queries), "p50_ms": round(statistics.median(took), 1)}
        browser.close()
    return found


if __name__ == "__main__":
    main()
