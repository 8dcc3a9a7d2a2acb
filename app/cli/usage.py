"""`paceline usage`: what was asked, used and spent."""

import csv
import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Connection

from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.money import dollars
from app.settings import get_settings
from app.usage.calls import calls_between, count_between
from app.usage.denials import denied_between
from app.usage.latency import latency_between
from app.usage.periods import Period, period_start, periods
from app.usage.reports import Group, Usage, breakdown
from app.usage.table import harmless, write_csv

PERIODS = {"today": "today", "week": "this week", "month": "this month"}


def usage(
    by: Annotated[Group | None, typer.Option(help="Break down by this")] = None,
    period: Annotated[str, typer.Option(help="Of the breakdown: today, week or month")] = "today",
    limit: Annotated[int, typer.Option(help="Rows of the breakdown", min=1, max=1_000_000)] = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the breakdown as CSV")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Print every single call of the period, as CSV or as JSON lines")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show requests, tokens and estimated cost: today, this week, this month; by agent, type, ..."""
    if period not in PERIODS:
        raise typer.BadParameter("today, week or month", param_hint="--period")
    settings = get_settings()
    now, zone = utcnow(), settings.zone
    by = by or (Group.AGENT if as_csv else None)
    since = period_start(PERIODS[period], now, zone)
    with database(settings) as engine, engine.connect() as connection:
        if calls:
            _export(connection, since, now, as_json=as_json)
            return
        rows = breakdown(connection, since, now, by, zone, limit) if by else []
        totals = [] if as_csv else periods(connection, now, zone)
        latency = latency_between(connection, since, now)
        denied = denied_between(connection, since, now)
    if as_csv:
        write_csv(sys.stdout, by or Group.AGENT, rows)
    elif as_json:
        groups = [{"name": name, **asdict(row)} for name, row in rows]
        print_json(
            {
                "as_of": now,
                "time_zone": zone.key,
                "periods": totals,
                "by": by,
                "groups": groups,
                "latency": latency,
                "denied": denied,
            }
        )
    else:
        _show(totals)
        if by:
            _show_groups(by, PERIODS[period], rows)
        if latency.p50_ms is not None:
            data.print(
                f"answers {PERIODS[period]}: half within {latency.p50_ms} ms, 95 % within "
                f"{latency.p95_ms} ms (to 5 %, whole hours)"
            )
        for refusal in denied:
            data.print(
                f"not allowed {PERIODS[period]}: {refusal.calls:,} x {refusal.reason}, at most "
                f"{refusal.peak_per_minute:,} in a minute",
                markup=False,
            )
        notes.print(
            f"as of {now:%Y-%m-%d %H:%M:%S} UTC, days of {zone.key}; cost is what the gateway reports, else "
            "estimated at list price; OTHER holds other errors and calls under way"
        )


def _export(connection: Connection, since: datetime, until: datetime, *, as_json: bool) -> None:
    """Every call as a line of CSV or JSON; the progress goes where a person looks."""
    total = count_between(connection, since, until)
    writer = csv.writer(sys.stdout)
    names: list[str] | None = None
    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task("calls", total=total)
        for row in calls_between(connection, since, until):
            if as_json:
                sys.stdout.write(json.dumps(row, default=str) + "\n")
            else:
                if names is None:
                    names = list(row)
                    writer.writerow(names)
                writer.writerow(map(harmless, row.values()))
            progress.advance(task)
    notes.print(f"{total:,} calls")


def _show(totals: list[Period]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in ("REQUESTS", "BEFORE", "OK", "429", "402", "OTHER", "TOKENS IN", "OUT", "COST"):
        table.add_column(column, justify="right", no_wrap=True)
    for period in totals:
        table.add_row(
            period.name, f"{period.usage.requests:,}", f"{period.before.requests:,}", *_cells(period.usage)
        )
    data.print(table)


def _show_groups(by: Group, period: str, rows: list[tuple[str, Usage]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{by.upper()}, {period.upper()}")
    for column in ("REQUESTS", "OK", "429", "402", "OTHER", "TOKENS IN", "OUT", "COST"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows:
        table.add_row(name, f"{row.requests:,}", *_cells(row))
    data.print()
    data.print(table if rows else "nothing in this period")


def _cells(usage: Usage) -> list[str]:
    counts = (usage.ok, usage.rate_limited, usage.credits_exhausted, usage.other)
    cost = dollars(usage.cost_micros)
    return [
        *(f"{count:,}" for count in counts),
        f"{usage.tokens_input:,}",
        f"{usage.tokens_output:,}",
        f"{cost} (+{usage.unpriced} of unknown cost)" if usage.unpriced else cost,
    ]
