"""Usage: a metric by something over some days, of what is chosen, all in the address; as CSV, too."""

import io
import shlex
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from app.clock import utcnow
from app.usage.denials import denied_between
from app.usage.explore import Asked, Found, Question, explore, series_of
from app.usage.latency import latency_between
from app.usage.periods import SPANS
from app.usage.reports import Group, Metric, Step
from app.usage.table import write_csv
from app.web.charts import Chart
from app.web.site import Site

ALL = 1_000_000
LATENCY = timedelta(days=30)
"""A page adds up no longer span of histograms."""
NAMES = {Metric.COST: "cost", Metric.REQUESTS: "requests", Metric.TOKENS: "tokens", Metric.ERRORS: "errors"}
UNITS = {**NAMES, Metric.COST: "dollars", Metric.TOKENS: "LLM tokens"}
NEXT = {Group.COMMUNITY: Group.AGENT, Group.AGENT: Group.TYPE}
"""Group of the page behind a name; behind all others it is by agent."""


def address_of(question: Question, **changes: str | None) -> str:
    """The part of an address after the `?` that asks this question, with some of its words changed."""
    words: dict[str, str | None] = {"metric": question.metric, "by": question.by}
    if question.span:
        words["period"] = question.span
    else:
        words |= {"since": question.since.isoformat(), "until": question.until.isoformat()}
    words |= {str(group): name for group, name in question.only.items()} | changes
    return urlencode({name: word for name, word in words.items() if word})


def command_of(question: Question) -> str:
    """The same question on the command line."""
    words = [f"--by {question.by}", f"--since {question.since}", f"--until {question.until}"]
    words += [f"--{group} {shlex.quote(name)}" for group, name in question.only.items()]
    return f"paceline usage {' '.join(words)}"


def chart_of(site: Site, connection: Connection, found: Found) -> Chart:
    """The metric over the days, of the first names one above the other."""
    question = found.question
    over_time = series_of(connection, found, site.settings.zone)
    is_by_hour = over_time.step is Step.HOUR
    labels = [f"{at:%H}h" if is_by_hour else f"{at:%m-%d}" for at in over_time.times]
    scale = 1e6 if question.metric is Metric.COST else 1
    layers = {
        name: [None if value is None else value / scale for value in values]
        for name, values in over_time.values.items()
    }
    name = NAMES[question.metric].capitalize()
    title = f"{name} per {over_time.step} by {question.by}, {question.days_in_words}"
    return Chart(title, UNITS[question.metric], labels, layers)


def filters_of(question: Question) -> Mapping[str, str]:
    """Each chosen name, and the address without it."""
    return {
        f"{group}: {name}": address_of(question, **{str(group): None})
        for group, name in question.only.items()
    }


def add(router: APIRouter, site: Site) -> None:
    """Add the page and its CSV."""

    @router.get("/usage")
    def usage(request: Request, asked: Annotated[Asked, Query()]) -> HTMLResponse:
        now, zone = utcnow(), site.settings.zone
        question = asked.question(now, zone)
        with site.engine.connect() as connection:
            found = explore(connection, question, now, zone)
            start, until = question.window(now, zone)
            return site.page(
                "usage.html",
                request,
                question=question,
                found=found,
                metrics=NAMES,
                groups=list(Group),
                spans=SPANS,
                days=question.days_in_words,
                address_of=address_of,
                narrower=NEXT.get(question.by, Group.AGENT),
                filters=filters_of(question),
                is_running=until == now,
                command=command_of(question),
                chart=chart_of(site, connection, found),
                latency=latency_between(connection, max(start, until - LATENCY), until),
                denied=denied_between(connection, start, until),
            )

    @router.get("/usage.csv")
    def usage_csv(asked: Annotated[Asked, Query()]) -> Response:
        now, zone = utcnow(), site.settings.zone
        question = asked.question(now, zone)
        with site.engine.connect() as connection:
            found = explore(connection, question, now, zone, ALL)
        text = io.StringIO()
        write_csv(text, question.by, [(row.name, row.usage) for row in found.rows])
        name = f"usage-by-{question.by}-{question.since}-to-{question.until}.csv"
        return Response(
            text.getvalue(),
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
