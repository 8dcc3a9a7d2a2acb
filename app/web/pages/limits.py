"""Limits, budgets and rules of publishing, with what is used of them."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.admission.limits import read_limits
from app.clock import utcnow
from app.controls import read_controls
from app.runs.budgets import BudgetStatus, read_budgets
from app.runs.demand import planned_demand
from app.usage.forecast import as_forecast, forecast_windows
from app.usage.reports import measure
from app.usage.rollups import read_watermark
from app.web.site import Site


def add(router: APIRouter, site: Site) -> None:
    """Add the page."""

    @router.get("/limits")
    def limits(request: Request) -> HTMLResponse:
        now, settings = utcnow(), site.settings
        zone = settings.zone
        with site.engine.begin() as connection:
            in_force = read_limits(connection, settings.limits)
            controls = read_controls(connection, settings.controls)
            watermark = read_watermark(connection)
            budgets = read_budgets(connection, settings, now, limits=in_force, watermark=watermark)
            demand = planned_demand(connection, settings)
            found = measure(connection, forecast_windows(settings.usage, now, zone), zone, watermark)
        return site.page(
            "limits.html",
            request,
            limits=in_force,
            controls=controls,
            budgets=_by_whose(budgets),
            forecast=as_forecast(settings.usage, demand, now, zone, found),
        )


def _by_whose(budgets: list[BudgetStatus]) -> list[tuple[str, BudgetStatus, BudgetStatus]]:
    """The budgets of day and month, by whose they are; the fleet first."""
    found = []
    for of in dict.fromkeys(budget.of for budget in budgets):
        own = {budget.period: budget for budget in budgets if budget.of == of}
        none = BudgetStatus(of, "", "", 0, 0)
        found.append((of, own.get("day", none), own.get("month", none)))
    return found
