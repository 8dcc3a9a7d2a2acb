"""`paceline usage`: what was asked, used and spent."""

import csv
import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Connection

from app.agents.roster import find_known
from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.money import dollars
from app.settings import get_settings
from app.usage.calls import calls_between, count_between
from app.usage.denials import denied_between
from app.usage.explore import Asked, Found, explore
from app.usage.latency import latency_between
from app.usage.periods import Period, Span, periods
from app.usage.reports import Group, Metric, Usage
from app.usage.table import harmless, write_csv


def usage(
    by: Annotated[Group | None, typer.Option(help="Break down by this")] = None,
    period: Annotated[Span, typer.Option(help="Of these days")] = Span.TODAY,
    since: Annotated[str, typer.Option(help="First day, instead of a period", metavar="DAY")] = "",
    until: Annotated[str, typer.Option(help="Last day; without it today", metavar="DAY")] = "",
    agent: Annotated[str, typer.Option(help="Only of this agent", metavar="HANDLE")] = "",
    community: Annotated[str, typer.Option(help="Only of this community", metavar="NAME")] = "",
    request_type: Annotated[str, typer.Option("--type", help="Only calls of this type: post, comment")] = "",
    model: Annotated[str, typer.Option(help="Only calls of this model")] = "",
    outcome: Annotated[str, typer.Option(help="Only calls with this outcome: ok, rate_limited")] = "",
    metric: Annotated[
        Literal["cost", "requests", "tokens", "errors"], typer.Option(help="Sort by this, and say its change")
    ] = "cost",
    limit: Annotated[int, typer.Option(help="Rows of the breakdown", min=1, max=1_000_000)] = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the breakdown as CSV")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Print every single call of these days, as CSV or as JSON lines")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show requests, tokens and estimated cost: today, this week, this month; by agent, type, ..."""
    settings = get_settings()
    now, zone = utcnow(), settings.zone
    try:
        question = Asked.model_validate(
            {
                "metric": Metric[metric.upper()],
                "by": by or Group.AGENT,
                "period": period,
                "since": since,
                "until": until,
                "agent": agent,
                "community": community,
                "type": request_type,
                "model": model,
                "outcome": outcome,
            }
        ).question(now, zone)
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise typer.BadParameter("write a day as 2026-11-30", param_hint=f"--{name}") from None
    start, end = question.window(now, zone)
    if calls and question.only:
        raise typer.BadParameter(
            "prints all calls of the days: filter its lines instead", param_hint="--calls"
        )
    is_chosen = bool(by or question.only or not question.span or as_csv)
    with database(settings) as engine, engine.connect() as connection:
        if calls:
            _export(connection, start, end, as_json=as_json)
            return
        found = explore(connection, question, now, zone, limit) if is_chosen else None
        if found and agent and not found.total.requests:
            find_known(connection, agent)  # says which handles are near
        totals = [] if as_csv else periods(connection, now, zone)
        latency = latency_between(connection, start, end)
        denied = denied_between(connection, start, end)
    rows = [(row.name, row.usage) for row in found.rows] if found else []
    if as_csv:
        write_csv(sys.stdout, question.by, rows)
    elif as_json:
        groups = [{"name": name, **asdict(row)} for name, row in rows]
        print_json(
            {
                "as_of": now,
                "time_zone": zone.key,
                "periods": totals,
                "by": by,
                "since": question.since,
                "until": question.until,
                "only": question.only,
                "groups": groups,
                "total": found and found.total,
                "before": found and found.before,
                "latency": latency,
                "denied": denied,
            }
        )
    else:
        if found is None or not question.only:
            _show(totals)
        if found:
            _show_groups(found)
        days = question.days_in_words
        if latency.p50_ms is not None:
            data.print(
                f"answers {days}: half within {latency.p50_ms} ms, 95 % within {latency.p95_ms} ms "
                "(to 5 %, whole hours, of the whole fleet)"
            )
        for refusal in denied:
            data.print(
                f"not allowed {days}: {refusal.calls:,} x {refusal.reason}, at most "
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


def _show_groups(found: Found) -> None:
    """The rows, the others, and all together, with what changed against as many days before."""
    question = found.question
    only = "".join(f", {group} {name}" for group, name in question.only.items())
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(escape(f"{question.by.upper()}, {question.days_in_words.upper()}{only}"))
    for column in ("REQUESTS", "OK", "429", "402", "OTHER", "TOKENS IN", "OUT", "COST", "CHANGE"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in found.rows:
        change = "" if row.before is None else _change(getattr(row.usage, question.metric), row.before)
        table.add_row(escape(row.name), f"{row.usage.requests:,}", *_cells(row.usage), change)
    if found.rest.requests:
        table.add_row("all others", f"{found.rest.requests:,}", *_cells(found.rest), "", style="dim")
    whole = found.total
    change = _change(getattr(whole, question.metric), found.before)
    table.add_row("together", f"{whole.requests:,}", *_cells(whole), change, style="bold")
    data.print()
    data.print(table if found.rows else "nothing in this time")


def _change(now: int, before: int) -> str:
    if not before:
        return "new" if now else ""
    return f"{100 * (now - before) / before:+.0f} %"


def _cells(usage: Usage) -> list[str]:
    counts = (usage.ok, usage.rate_limited, usage.credits_exhausted, usage.other)
    cost = dollars(usage.cost_micros)
    return [
        *(f"{count:,}" for count in counts),
        f"{usage.tokens_input:,}",
        f"{usage.tokens_output:,}",
        f"{cost} (+{usage.unpriced} of unknown cost)" if usage.unpriced else cost,
    ]
