"""The first page: how the fleet is doing at a glance, and what stops it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from app.alerts.incidents import list_incidents
from app.audit_log import Change, last_change
from app.clock import utcnow
from app.community.feed import latest_posts
from app.runs import jobs
from app.runs.demand import demand_of
from app.runs.progress import Progress, read_progress
from app.runs.stops import Look, find_stops, with_who_paused
from app.usage.forecast import Forecast, as_forecast, forecast_windows
from app.usage.periods import Period, as_periods, period_windows
from app.usage.reports import Step, measure, series
from app.usage.rollups import read_watermark
from app.web.charts import Chart
from app.web.site import Site


@dataclass(frozen=True, slots=True)
class Overview:
    """The fleet now. `seen`: what holds calls back; `paused_by`: who paused it, and why."""

    as_of: datetime
    progress: Progress
    seen: Look
    paused_by: Change | None
    periods: list[Period]
    forecast: Forecast
    incidents: list[dict[str, object]]


def read_overview(
    site: Site, connection: Connection, seen: Look, now: datetime, watermark: datetime | None = None
) -> Overview:
    """Everything but the chart and the posts, in few queries."""
    settings, zone = site.settings, site.settings.zone
    progress = read_progress(connection, settings, now, now - timedelta(seconds=settings.cycle.period_s))
    wanted = period_windows(now, zone)
    found = measure(connection, wanted + forecast_windows(settings.usage, now, zone), zone, watermark)
    demand = demand_of(progress.active_agents, progress.rate, settings)
    paused_by = None
    if seen.state and seen.state.paused_until:
        paused_by = last_change(connection, "limits.set", "paused_until")
    return Overview(
        as_of=now,
        progress=progress,
        seen=seen,
        paused_by=paused_by,
        periods=as_periods(now, zone, found[: len(wanted)]),
        forecast=as_forecast(settings.usage, demand, now, zone, found[len(wanted) :]),
        incidents=list_incidents(connection, 5, is_open=True),
    )


def requests_chart(site: Site, connection: Connection, now: datetime, watermark: datetime) -> Chart:
    """Requests of the last 24 hours."""
    zone = site.settings.zone
    found = series(connection, now - timedelta(hours=23), now, Step.HOUR, zone, watermark)
    labels = [f"{at.astimezone(zone):%H}h" for at, _ in found]
    requests = [None if usage is None else usage.requests for _, usage in found]
    return Chart("Gateway requests per hour, last 24 hours", "requests", labels, {"requests": requests})


def add(router: APIRouter, site: Site) -> None:
    """Add the page."""

    @router.get("/")
    def overview(request: Request) -> HTMLResponse:
        now, seen = utcnow(), site.look()
        with site.engine.connect() as connection:
            watermark = read_watermark(connection)
            found = read_overview(site, connection, seen, now, watermark)
            chart = requests_chart(site, connection, now, watermark)
            posts = latest_posts(connection, 5)
        stops = find_stops(found.seen)
        return site.page(
            "overview.html",
            request,
            found=found,
            progress=found.progress,
            periods=found.periods,
            forecast=found.forecast,
            chart=chart,
            posts=posts,
            seen=found.seen,
            stops=with_who_paused(stops, found.paused_by),
            period_s=site.settings.cycle.period_s,
            is_silent=jobs.is_silent(found.progress.scheduler_silence_s or 0.0, site.settings),
        )
