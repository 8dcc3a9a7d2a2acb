"""Incidents, alerts, the way out, the change log, and whether each part works."""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from redis.exceptions import RedisError

from app import retention
from app.admission.limits import read_limits
from app.alerts.incidents import list_incidents
from app.alerts.outbox import list_alerts
from app.alerts.rules import RULES
from app.audit_log import list_changes
from app.clock import utcnow
from app.integration.deliveries import dead_letters
from app.integration.standing import read_standing
from app.kinds import BY_CODE
from app.runs import jobs, leases
from app.runs.workers import Worker, list_workers
from app.web.site import Site

PAGE = 50


def _workers(site: Site) -> list[Worker]:
    """Worker processes; none when Redis does not answer, which the page says by itself."""
    try:
        return list_workers(site.services.redis)
    except RedisError:
        return []


def add(router: APIRouter, site: Site) -> None:
    """Add the pages."""

    @router.get("/incidents")
    def incidents(request: Request) -> HTMLResponse:
        with site.engine.connect() as connection:
            found = list_incidents(connection)
            looked = {job.name: job.done_at for job in jobs.last_rounds(connection)}.get(jobs.WATCH)
        return site.page("incidents.html", request, incidents=found, kinds=BY_CODE, looked=looked)

    @router.get("/alerts")
    def alerts(request: Request) -> HTMLResponse:
        with site.engine.connect() as connection:
            found = list_alerts(connection)
        settings = site.settings.alerts
        told = [(rule.name, rule.about(site.settings)) for rule in RULES]
        return site.page(
            "alerts.html",
            request,
            alerts=found,
            rules=told,
            channels=len(settings.urls),
            quiet_hours=settings.quiet_hours,
        )

    @router.get("/application")
    def application(request: Request) -> HTMLResponse:
        with site.engine.connect() as connection:
            receivers = read_standing(connection)
            dead = dead_letters(connection) if any(item.dead for item in receivers) else []
        return site.page("application.html", request, receivers=receivers, dead=dead)

    @router.get("/audit")
    def audit(request: Request, before: UUID | None = None) -> HTMLResponse:
        with site.engine.connect() as connection:
            changes = list_changes(connection, before=before, limit=PAGE)
            rounds = {job.name: job for job in jobs.last_rounds(connection)}
        older = changes[-1].id if len(changes) == PAGE else None
        return site.page(
            "audit.html",
            request,
            changes=changes,
            older=older,
            before=before,
            books=rounds.get(jobs.CHECK_BOOKS),
        )

    @router.get("/health")
    def health(request: Request) -> HTMLResponse:
        settings = site.settings
        with site.engine.connect() as connection:
            rounds = jobs.last_rounds(connection)
            lines = leases.lines(connection)
            limits = read_limits(connection, settings.limits)
            sizes = retention.sizes(connection, settings, utcnow())
        by_name = {job.name: job for job in rounds}
        slice_job = by_name.get(jobs.OPEN_SLICE)
        return site.page(
            "health.html",
            request,
            jobs=rounds,
            lines=lines,
            workers=_workers(site),
            version=limits.version,
            slice_age_s=slice_job and slice_job.age_s,
            slice_s=settings.cycle.slice_length_s,
            is_silent=slice_job is not None and jobs.is_silent(slice_job.age_s, settings),
            drift=by_name.get(jobs.RECONCILE),
            books=by_name.get(jobs.CHECK_BOOKS),
            flower=settings.flower.url,
            sizes=sizes,
            disk=retention.forecast(sizes, settings.kept),
        )
