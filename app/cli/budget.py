"""`paceline budget`: what may be spent, what is spent, and how long it lasts."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from app.actions import Done
from app.actions.fleet import SetBudget
from app.alerts.money import NAMES
from app.cli.acting import act
from app.cli.connect import database, desk
from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.controls import read_controls
from app.money import dollars
from app.runs.budgets import read_budgets
from app.runs.demand import planned_demand
from app.runs.stops import look
from app.settings import get_settings
from app.usage.forecast import Forecast, forecast

app = typer.Typer(help="Money: budgets, what is spent of them, forecast.", no_args_is_help=True)


@app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Show every budget with what is spent of it, and the forecast."""
    settings = get_settings()
    now = utcnow()
    with database(settings) as engine:
        asked = look(desk(settings, engine).admission, settings, engine).asked
        with engine.begin() as connection:
            policy = read_controls(connection, settings.controls).over_budget
            demand = planned_demand(connection, settings)
            found = forecast(connection, settings.usage, demand, now, settings.zone)
            budgets = read_budgets(connection, settings, now)
    problem = asked.price_problem if any(budget.limit for budget in budgets) else None
    rows: list[dict[str, Any]] = [
        {
            "of": budget.of,
            "period": NAMES[budget.period],
            "micros": budget.limit,
            "spent": budget.spent,
            "reserved": budget.held,
            "is_used_up": budget.is_used_up,
        }
        for budget in budgets
    ]
    if as_json:
        print_json(
            {
                "budgets": rows,
                "over_budget": policy,
                "price_problem": problem,
                "forecast": asdict(found),
                "as_of": now,
            }
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("BUDGET OF", "PERIOD", "SPENT", "RESERVED", "OF", "SHARE"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        share = f"{100 * row['spent'] / row['micros']:.0f} %" if row["micros"] else ""
        limit = dollars(row["micros"]) if row["micros"] else "no limit"
        share += "  USED UP" if row["is_used_up"] else ""
        table.add_row(row["of"], row["period"], dollars(row["spent"]), dollars(row["reserved"]), limit, share)
    data.print(table)
    for name, said in forecast_lines(found):
        data.print(f"{name:<13}{said}", markup=False)
    if problem:
        notes.print(problem, style="yellow", markup=False)
    notes.print(
        f"when a budget is used up: {policy}; as of {now:%Y-%m-%d %H:%M:%S} UTC, days of {settings.zone.key}"
    )


def _told(ask: SetBudget, _: Done) -> str:
    whose = ask.community or "fleet"
    return "\n".join(
        f"{whose}, {'day' if 'day' in name else 'month'}: {dollars(micros) if micros else 'no limit'}"
        for name, micros in ask.in_micros.items()
    )


app.command("set")(act("budget", _told, options={"day_usd": "--day", "month_usd": "--month"}))


def forecast_lines(found: Forecast) -> list[tuple[str, str]]:
    """The forecast for a person."""
    lines = [
        ("per day", _two(found.per_day_measured, found.per_day_planned)),
        ("month's end", _two(found.month_measured, found.month_planned)),
    ]
    if found.credits_left is None:
        lines.append(("credits", "unknown: set PACELINE_USAGE__CREDITS_USD to what you bought"))
    else:
        days = "unknown" if found.runway_days is None else f"{found.runway_days:g} days"
        lines.append(("credits", f"{dollars(found.credits_left)} left, they last {days}"))
    return [*lines, ("assumed", found.basis)]


def _two(measured: int | None, planned: int | None) -> str:
    return f"{dollars(measured)} as measured, {dollars(planned)} as planned"
