"""Usage: a metric by something over some time, all in the address of the page; as CSV, too."""

import io
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from app.clock import utcnow
from app.usage.denials import denied_between
from app.usage.latency import latency_between
from app.usage.periods import SPANS, Span, span_start
from app.usage.ranking import read_ranking
from app.usage.reports import Group, Metric, Step, Usage, breakdown, series, usage_between
from app.usage.rollups import read_watermark
from app.usage.table import write_csv
from app.web.charts import Bar, Chart
from app.web.site import Site

ROWS = 100
ALL = 1_000_000
LATENCY = timedelta(days=30)
"""A page adds up no longer span of histograms."""
NAMES = {Metric.COST: "cost", Metric.REQUESTS: "requests", Metric.TOKENS: "tokens", Metric.ERRORS: "errors"}
UNITS = {**NAMES, Metric.COST: "dollars", Metric.TOKENS: "LLM tokens"}


@dataclass(frozen=True, slots=True)
class Explored:
    """A breakdown with its whole; `rest` is what the rows leave out. `ranked_at`: when the rows were ranked,
    if that was not just now.
    """

    as_of: datetime
    start: datetime
    rows: list[tuple[str, Usage]]
    total: Usage
    rest: Usage
    ranked_at: datetime | None


def explore(
    site: Site,
    connection: Connection,
    metric: Metric,
    by: Group,
    span: Span,
    limit: int = ROWS,
    watermark: datetime | None = None,
) -> Explored:
    """Read a breakdown and its whole; more than ROWS rows are always asked anew."""
    now, zone = utcnow(), site.settings.zone
    start = span_start(span, now, zone)
    ranked = read_ranking(connection, span, by, metric, now, zone) if limit <= ROWS else None
    watermark = watermark or read_watermark(connection)
    rows = (
        ranked.rows[:limit]
        if ranked
        else breakdown(connection, start, now, by, zone, limit, metric, watermark)
    )
    total = usage_between(connection, start, now, zone, watermark)
    names = Usage.__slots__
    sums = {name: getattr(total, name) - sum(getattr(u, name) for _, u in rows) for name in names}
    rest = Usage(**{name: max(0, value) for name, value in sums.items()})
    return Explored(now, start, rows, total, rest, ranked.as_of if ranked else None)


def chart_of(
    site: Site, connection: Connection, metric: Metric, span: Span, now: datetime, watermark: datetime
) -> Chart:
    """The metric over the span, by hour today and by day otherwise."""
    zone = site.settings.zone
    step = Step.HOUR if span is Span.TODAY else Step.DAY
    found = series(connection, span_start(span, now, zone), now, step, zone, watermark)
    scale = 1e6 if metric is Metric.COST else 1
    bars = [
        Bar(
            f"{at.astimezone(zone):{'%H' if step is Step.HOUR else '%m-%d'}}"
            + ("h" if step is Step.HOUR else ""),
            None if usage is None else getattr(usage, metric) / scale,
        )
        for at, usage in found
    ]
    return Chart(f"{NAMES[metric].capitalize()} per {step}, {SPANS[span]}", UNITS[metric], bars)


def add(router: APIRouter, site: Site) -> None:
    """Add the page and its CSV."""

    @router.get("/usage")
    def usage(
        request: Request, metric: Metric = Metric.COST, by: Group = Group.AGENT, period: Span = Span.TODAY
    ) -> HTMLResponse:
        with site.engine.connect() as connection:
            watermark = read_watermark(connection)
            found = explore(site, connection, metric, by, period, watermark=watermark)
            now = found.as_of
            return site.page(
                "usage.html",
                request,
                metric=metric,
                by=by,
                period=period,
                found=found,
                metrics=NAMES,
                groups=list(Group),
                spans=SPANS,
                chart=chart_of(site, connection, metric, period, now, watermark),
                latency=latency_between(connection, max(found.start, now - LATENCY), now),
                denied=denied_between(connection, found.start, now),
            )

    @router.get("/usage.csv")
    def usage_csv(
        metric: Metric = Metric.COST, by: Group = Group.AGENT, period: Span = Span.TODAY
    ) -> Response:
        with site.engine.connect() as connection:
            found = explore(site, connection, metric, by, period, ALL)
        text = io.StringIO()
        write_csv(text, by, found.rows)
        return Response(
            text.getvalue(),
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="usage-by-{by}-{period}.csv"'},
        )
