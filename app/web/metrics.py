"""`/metrics` for Prometheus: computed when it is asked for, from PostgreSQL's rollups and Redis.

Never a label per agent: a hundred thousand series help nobody; that is what the pages are for. And none
called `job` or `instance`: Prometheus gives these itself. Counters are sums of this month, which begin
anew with the month, as a counter may. Answers are kept for a few seconds, so that several scrapers cost no
more than one.
"""

import threading
from collections.abc import Iterator
from datetime import datetime

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, text

from app.admission.limits import read_limits
from app.alerts.incidents import list_incidents
from app.clock import monotonic, utcnow
from app.integration.standing import read_standing
from app.kinds import FLEET_WIDE, KEY_REFUSED
from app.models import Role, RunState
from app.runs import jobs
from app.runs.budgets import read_budgets
from app.runs.demand import demand_of
from app.runs.progress import Progress, read_progress
from app.usage.forecast import as_forecast, forecast_windows
from app.usage.periods import period_start
from app.usage.reports import calls_by_kind, measure
from app.usage.rollups import read_watermark
from app.web.access import api_guard
from app.web.site import Site

KEPT_S = 5.0
AGENTS = text("select state, count(*) from paceline.agents group by 1")
RUNS = text("""
  select state, count(*), coalesce(extract(epoch from now() - min(due_at)), 0) from paceline.runs
  where state in ('queued', 'running', 'snoozed') group by 1
""")


def add(app: FastAPI, site: Site) -> None:
    """Add the route. A scraper needs an API token (`authorization` in its configuration)."""
    registry = CollectorRegistry()
    registry.register(Fleet(site))
    lock = threading.Lock()
    kept: tuple[float, bytes] = (-KEPT_S, b"")

    @app.get("/metrics", include_in_schema=False, dependencies=[api_guard(site, Role.VIEWER)])
    def metrics() -> Response:
        nonlocal kept
        with lock:
            if monotonic() - kept[0] >= KEPT_S:
                kept = (monotonic(), generate_latest(registry))
            return Response(kept[1], media_type=CONTENT_TYPE_LATEST)


class Fleet(Collector):
    """Everything that is worth a graph or an alert."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[Metric]:
        """Nothing is known before it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read, and tell."""
        site, now = self._site, utcnow()
        with site.engine.begin() as connection:
            progress = read_progress(connection, site.settings, now, now)
            yield from _fleet(connection, progress)
            watermark = read_watermark(connection)
            yield from _calls(connection, site, now, watermark)
            yield from _money(connection, site, progress, now, watermark)
            yield from _health(connection, site)
            yield from _receivers(connection)
        yield from _admission(site)


def _gauge(name: str, about: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"paceline_{name}", about, value=value)


def _receivers(connection: Connection) -> Iterator[Metric]:
    standing = read_standing(connection)
    for name, about, values in (
        ("events_waiting", "Events that wait for a receiver.", {s.id: float(s.pending) for s in standing}),
        ("events_dead", "Events that are not tried again.", {s.id: float(s.dead) for s in standing}),
        ("events_lag_seconds", "How long the oldest event waits.", {s.id: s.lag_s for s in standing}),
    ):
        yield _by(name, about, "receiver", values)


def _by(name: str, about: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"paceline_{name}", about, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _fleet(connection: Connection, progress: Progress) -> Iterator[Metric]:
    states = {str(row[0]): float(row[1]) for row in connection.execute(AGENTS)}
    yield _by("agents", "Agents by state.", "state", states)
    runs = connection.execute(RUNS).all()
    empty = dict.fromkeys(("queued", "running", "snoozed"), 0.0)
    counts = empty | {str(row[0]): float(row[1]) for row in runs}
    yield _by("runs_open", "Runs that have not ended, by state.", "state", counts)
    oldest = max((float(row[2]) for row in runs if row[0] != "running"), default=0.0)
    yield from _gauge("runs_oldest_wait_seconds", "How long the oldest waiting run is due.", oldest)
    cycle = {str(state): float(progress.cycle_runs.get(state, 0)) for state in RunState}
    yield _by("cycle_runs", "Runs of the running cycle by state.", "state", cycle)
    yield from _gauge("calls_per_second", "Gateway calls over the last ten seconds.", progress.calls_per_s)


def _calls(connection: Connection, site: Site, now: datetime, watermark: datetime) -> Iterator[Metric]:
    zone = site.settings.zone
    labels = ["request_type", "model", "outcome"]
    calls = CounterMetricFamily("paceline_calls", "Gateway calls of this month.", labels=labels)
    tokens = CounterMetricFamily(
        "paceline_tokens", "LLM tokens of this month.", labels=["model", "direction"]
    )
    cost = CounterMetricFamily("paceline_cost_dollars", "Estimated cost of this month.", labels=["model"])
    sums: dict[str, list[float]] = {}
    start = period_start("this month", now, zone)
    for (request_type, model, outcome), usage in calls_by_kind(connection, start, now, zone, watermark):
        if outcome == "in_flight":  # a counter must not go back
            continue
        calls.add_metric([request_type, model, outcome], usage.requests)
        of_model = sums.setdefault(model, [0.0, 0.0, 0.0])
        of_model[0] += usage.tokens_input
        of_model[1] += usage.tokens_output
        of_model[2] += usage.cost_micros / 1e6
    for model, (tokens_in, tokens_out, dollars) in sums.items():
        tokens.add_metric([model, "input"], tokens_in)
        tokens.add_metric([model, "output"], tokens_out)
        cost.add_metric([model], dollars)
    yield from (calls, tokens, cost)


def _money(
    connection: Connection, site: Site, progress: Progress, now: datetime, watermark: datetime
) -> Iterator[Metric]:
    settings, zone = site.settings, site.settings.zone
    limits = read_limits(connection, settings.limits)
    budgets = read_budgets(connection, settings, now, limits=limits, watermark=watermark)
    fleet = [budget for budget in budgets if budget.is_of_fleet]
    spent = {budget.period: budget.spent / 1e6 for budget in fleet}
    about = "What counts against budgets of the fleet: cost, and reservations where it is unknown."
    yield _by("spent_dollars", about, "period", spent)
    limited = [budget for budget in fleet if budget.limit]
    set_ones = {budget.period: budget.limit / 1e6 for budget in limited}
    yield _by("budget_dollars", "Budgets of the fleet, where there are any.", "period", set_ones)
    used_up = {budget.period: float(budget.is_used_up) for budget in limited}
    about = "Whether a budget of the fleet is used up, so that it refuses calls."
    yield _by("budget_used_up", about, "period", used_up)
    windows = forecast_windows(settings.usage, now, zone)
    found = measure(connection, windows, zone, watermark)
    demand = demand_of(progress.active_agents, limits.rate, settings)
    forecast = as_forecast(settings.usage, demand, now, zone, found)
    left = forecast.credits_left
    yield from _gauge("credits_left_dollars", "Credits at the gateway, estimated.", left and left / 1e6)
    yield from _gauge("runway_days", "How long the credits last.", forecast.runway_days)
    per_s = demand.calls_per_day / 86_400
    yield from _gauge("demand_calls_per_second", "Calls that the fleet is planned to make, capped.", per_s)


def _health(connection: Connection, site: Site) -> Iterator[Metric]:
    slice_s = site.settings.cycle.slice_length_s
    yield from _gauge("slice_seconds", "How often a slice is opened.", slice_s)
    rounds = jobs.last_rounds(connection)
    ages = {job.name: job.age_s for job in rounds}
    yield _by("job_age_seconds", "How long ago each periodic task did its work.", "task", ages)
    kinds = [str(incident["kind"]) for incident in list_incidents(connection, is_open=True)]
    counts = {kind.code: float(kinds.count(kind.code)) for kind in FLEET_WIDE}
    yield _by("incidents_open", "Refusals of the gateway that go on.", "kind", counts)
    for job in rounds:
        number = job.result.partition(" ")[0]
        if job.name == jobs.CHECK_BOOKS and number.isdigit():
            about = "Differences found at the last check."
            yield from _gauge("books_differences", about, float(number))


def _admission(site: Site) -> Iterator[Metric]:
    state = site.look().state
    yield from _gauge("redis_up", "Whether Redis answers.", float(state is not None))
    if state is None:
        return
    yield from _gauge("rate_limit", "Calls per second that are allowed.", state.rate)
    yield from _gauge("rate_effective", "The same just now, after a 429 less.", state.effective_rate)
    yield from _gauge("calls_reserved", "Calls that wait for a permit or are under way.", state.reserved)
    yield from _gauge("paused", "Whether the fleet is paused.", float(state.paused_until is not None))
    yield from _gauge(
        "breaker_open",
        "Whether the gateway's answers stop all calls: credits, key, a quota.",
        float(state.breaker != "closed"),
    )
    yield from _gauge(
        "key_refused", "Whether the gateway refused the key.", float(state.stop_reason == KEY_REFUSED.code)
    )
