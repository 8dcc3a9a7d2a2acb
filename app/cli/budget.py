"""`paceline budget`: what may be spent, what is spent, and how long it lasts."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from app import acts
from app.admission.limits import read_limits
from app.cli.connect import database, desk, me
from app.cli.output import data, notes, print_json
from app.clock import utcnow
from app.community.budgets import list_budgets
from app.controls import read_controls
from app.errors import ConfigError
from app.runs.demand import planned_demand
from app.settings import get_settings
from app.usage.forecast import Forecast, forecast
from app.usage.periods import period_start
from app.usage.reports import cost_by_community

app = typer.Typer(help="Money: budgets, what is spent of them, forecast.", no_args_is_help=True)

Dollars = Annotated[float | None, typer.Option(help="Dollars; 0: no limit", min=0)]


@app.command("show")
def show(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Show every budget with what is spent of it, and the forecast."""
    settings = get_settings()
    now, zone = utcnow(), settings.zone
    with database(settings) as engine, engine.begin() as connection:
        limits = read_limits(connection, settings.limits)
        policy = read_controls(connection, settings.controls).over_budget
        found = forecast(
            connection, settings.usage, planned_demand(connection, settings), now, zone
        )
        day = cost_by_community(connection, period_start("today", now, zone), now, zone)
        month = cost_by_community(connection, period_start("this month", now, zone), now, zone)
        own = list_budgets(connection)
    rows: list[dict[str, Any]] = [
        {"of": "fleet", "period": "today", "micros": limits.budget_day_micros, "spent": sum(day.values())},
        {"of": "fleet", "period": "this month", "micros": limits.budget_month_micros,
         "spent": sum(month.values())},
    ]  # fmt: skip
    for budget in own:
        for period, micros, spent in (
            ("today", budget.day_micros, day), ("this month", budget.month_micros, month),
        ):  # fmt: skip
            if micros:
                rows.append({"of": budget.community, "period": period, "micros": micros,
                             "spent": spent.get(budget.id, 0)})  # fmt: skip
    if as_json:
        print_json(
            {"budgets": rows, "over_budget": policy, "forecast": asdict(found), "as_of": now}
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("BUDGET OF", "PERIOD", "SPENT", "OF", "SHARE"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        share = f"{100 * row['spent'] / row['micros']:.0f} %" if row["micros"] else ""
        limit = _money(row["micros"]) if row["micros"] else "no limit"
        table.add_row(row["of"], row["period"], _money(row["spent"]), limit, share)
    data.print(table)
    for name, said in forecast_lines(found):
        data.print(f"{name:<13}{said}", markup=False)
    notes.print(
        f"when a budget is used up: {policy}; as of {now:%Y-%m-%d %H:%M:%S} UTC, days of {zone.key}"
    )


@app.command("set")
def set_(
    day: Dollars = None,
    month: Dollars = None,
    community: Annotated[
        str | None, typer.Option(help="Of one community; default: the fleet")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the audit log")] = "",
) -> None:
    """Set budgets; every worker's next call sees them."""
    given = {"budget_day_micros": day, "budget_month_micros": month}
    changes = {name: round(value * 1e6) for name, value in given.items() if value is not None}
    if not changes:
        raise ConfigError("nothing to change: give --day or --month, in dollars")
    settings = get_settings()
    with database(settings) as engine:
        acts.set_budgets(desk(settings, engine), community, changes, me(reason))
    whose = community or "fleet"
    for name, micros in changes.items():
        period = "day" if "day" in name else "month"
        data.print(f"{whose}, {period}: {_money(micros) if micros else 'no limit'}", markup=False)


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
        lines.append(("credits", f"{_money(found.credits_left)} left, they last {days}"))
    return [*lines, ("assumed", found.basis)]


def _two(measured: int | None, planned: int | None) -> str:
    return f"{_money(measured)} as measured, {_money(planned)} as planned"


def _money(micros: int | None) -> str:
    return "unknown" if micros is None else f"${micros / 1e6:,.4f}"
