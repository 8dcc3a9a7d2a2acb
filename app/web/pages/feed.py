"""Texts of agents, with those that wait for a person."""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.community.review import count_by_state, list_content, verbs_by_state
from app.models import ContentState
from app.web.site import Site

PAGE = 50


def add(router: APIRouter, site: Site) -> None:
    """Add the page."""

    @router.get("/feed")
    def feed(request: Request, state: ContentState | str = "", before: UUID | None = None) -> HTMLResponse:
        wanted = ContentState(state) if state in set(ContentState) else None
        with site.engine.connect() as connection:
            found = list_content(connection, state=wanted, before=before, limit=PAGE)
            counts = count_by_state(connection)
        older = found[-1].id if len(found) == PAGE else None
        return site.page(
            "feed.html",
            request,
            content=found,
            counts=counts,
            state=wanted,
            older=older,
            states=list(ContentState),
            possible=verbs_by_state(),
        )
