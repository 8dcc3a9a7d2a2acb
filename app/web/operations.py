"""Pages of what agents wrote, of what is in force, and of who changed what. They read; acting is the
command line's, and each page says with which verb.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from redis.exceptions import RedisError

from app.admission.circuit import StoreAway
from app.admission.limits import read_limits
from app.clock import utcnow
from app.community.budgets import list_budgets
from app.community.review import count_by_state, list_content
from app.controls import read_controls
from app.live import list_changes
from app.models import ContentState
from app.runs.services import Services
from app.usage.reports import cost_by_community, period_start

PAGE = 50
Page = Callable[..., HTMLResponse]


def add_operations(app: FastAPI, services: Services, page: Page) -> None:
    """Add these pages to the application; `page` renders a template."""
    settings, engine = services.settings, services.engine

    @app.get("/feed")
    def feed(
        request: Request, state: ContentState | None = None, before: datetime | None = None
    ) -> HTMLResponse:
        with engine.connect() as connection:
            found = list_content(connection, state=state, before=before, limit=PAGE)
            counts = count_by_state(connection)
        older = found[-1].created_at if len(found) == PAGE else None
        return page("feed.html", request, content=found, counts=counts, state=state, older=older,
                    states=list(ContentState))  # fmt: skip

    @app.get("/limits")
    def limits(request: Request) -> HTMLResponse:
        now, zone = utcnow(), settings.zone
        with engine.begin() as connection:
            in_force = read_limits(connection, settings.limits)
            controls = read_controls(connection, settings.controls)
            own = list_budgets(connection)
            day = cost_by_community(connection, period_start("today", now, zone), now, zone)
            month = cost_by_community(connection, period_start("this month", now, zone), now, zone)
        state: Any = None
        with suppress(StoreAway, RedisError):  # the page says so
            state = services.admission.state()
        return page("limits.html", request, limits=in_force, controls=controls, budgets=own, day=day,
                    month=month, state=state)  # fmt: skip

    @app.get("/audit")
    def audit(request: Request, before: datetime | None = None) -> HTMLResponse:
        with engine.connect() as connection:
            changes = list_changes(connection, before=before, limit=PAGE)
        older = changes[-1].at if len(changes) == PAGE else None
        return page("audit.html", request, changes=changes, older=older)
