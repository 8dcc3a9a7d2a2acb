"""Runs of the whole fleet, and one run with everything that came of it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.errors import ConfigError
from app.integration.history import of_run
from app.models import RunState
from app.runs.report import CAME_TO_NOTHING, ListedRun, find_run, list_runs
from app.runs.states import OPEN
from app.web.site import Site

PAGE = 50


class Which(StrEnum):
    """Choice of the runs that are listed."""

    ALL = "all"
    OPEN = "open"
    COMPLETED = "completed"
    NOTHING = "came to nothing"


STATES: dict[Which, tuple[RunState, ...]] = {
    Which.ALL: (),
    Which.OPEN: tuple(OPEN),
    Which.COMPLETED: (RunState.COMPLETED,),
    Which.NOTHING: CAME_TO_NOTHING,
}


def cursor_of(run: ListedRun) -> str:
    """Where the next page begins, for the address."""
    return f"{run.due_at.isoformat()}~{run.id}"


def parse_cursor(text: str) -> tuple[datetime, UUID] | None:
    """The same back; raises ConfigError."""
    if not text:
        return None
    moment, _, run_id = text.partition("~")
    try:
        at, before = datetime.fromisoformat(moment), UUID(run_id)
    except ValueError:
        raise ConfigError(f"`before` is not a place in the list: {text[:80]!r}") from None
    if at.tzinfo is None:
        raise ConfigError("`before` has no time zone")
    return at, before


def add(router: APIRouter, site: Site) -> None:
    """Add the list and the page of one run."""

    @router.get("/runs")
    def runs(request: Request, which: Which = Which.ALL, before: str = "") -> HTMLResponse:
        with site.engine.connect() as connection:
            found = list_runs(connection, states=STATES[which], before=parse_cursor(before), limit=PAGE)
        older = cursor_of(found[-1]) if len(found) == PAGE else None
        return site.page(
            "runs.html", request, runs=found, which=which, choices=list(Which), older=older, before=before
        )

    @router.get("/runs/{run_id}")
    def run(request: Request, run_id: UUID) -> HTMLResponse:
        with site.engine.connect() as connection:
            found = find_run(connection, run_id)
            steps = of_run(connection, run_id)
        if found is None:
            return site.page(
                "error.html",
                request,
                404,
                said="There is no such run.",
                mend="The list of runs has the latest ones.",
            )
        return site.page("run.html", request, run=found, steps=steps, flower=site.settings.flower.url)
