"""What may be called, spent and published, live, with what is used of it."""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from redis.exceptions import RedisError

from app.admission.circuit import StoreAway
from app.admission.controller import Spend
from app.admission.limits import read_limits
from app.clock import utcnow
from app.community.budgets import list_budgets
from app.controls import read_controls
from app.runs.demand import planned_demand
from app.usage.forecast import as_forecast, forecast_windows
from app.usage.periods import period_start
from app.usage.reports import measure
from app.web.pages.overview import read_state
from app.web.site import Site


def add(router: APIRouter, site: Site) -> None:
    """Add the page."""

    @router.get("/limits")
    def limits(request: Request) -> HTMLResponse:
        now, settings = utcnow(), site.settings
        zone = settings.zone
        windows = [(period_start(name, now, zone), now) for name in ("today", "this month")]
        with site.engine.begin() as connection:
            in_force = read_limits(connection, settings.limits)
            controls = read_controls(connection, settings.controls)
            own = list_budgets(connection)
            demand = planned_demand(connection, settings)
            found = measure(connection, windows + forecast_windows(settings.usage, now, zone), zone)
        return site.page(
            "limits.html", request, limits=in_force, controls=controls, budgets=own,
            day=found[0].usage.cost_micros, month=found[1].usage.cost_micros, state=read_state(site),
            spend=_spend(site, [budget.id for budget in own]),
            forecast=as_forecast(settings.usage, demand, now, zone, found[2:]),
        )  # fmt: skip


def _spend(site: Site, places: list[UUID]) -> Spend:
    """What admission counts for these communities; nothing when Redis does not answer."""
    try:
        return site.services.admission.spent_by(places)
    except (StoreAway, RedisError):
        return Spend({}, {})
