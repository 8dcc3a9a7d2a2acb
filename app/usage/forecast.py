"""When the credits end, and what the month will cost: from what was burnt and from what is planned."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from app.clock import day_window, month_window
from app.settings import UsageSettings
from app.usage.reports import usage_in

WINDOW_DAYS = 7
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What the fleet is planned to call for: calls per day, by the cap at most."""

    calls_per_day: float
    basis: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a forecast rests on, in micro-dollars. `burnt_days` is how long `burnt` took."""

    spent_month: int
    burnt: int
    burnt_calls: int
    burnt_days: float
    days_left: float
    credits_left: int | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Micro-dollars and days; None where nobody knows. `basis` says what was assumed."""

    per_day_measured: int | None
    per_day_planned: int | None
    month_measured: int | None
    month_planned: int | None
    credits_left: int | None
    runway_days: float | None
    basis: str


def forecast(
    connection: Connection, settings: UsageSettings, demand: Demand, now: datetime, zone: ZoneInfo
) -> Forecast:
    """Read the facts, and compute."""
    month_start, month_end = month_window(now, zone)
    first = connection.execute(
        text("select least((select min(hour) from paceline.ai_usage_fleet_hourly), :today)"),
        {"today": day_window(now, zone)[0]},
    ).scalar_one()
    # From a whole hour, because that is what rollups know.
    since = max(first, day_window(now - timedelta(days=WINDOW_DAYS), zone)[0])
    bought = settings.credits_since or first
    windows = [(since, now), (month_start, now), (min(bought, now), now)]
    burnt, month, since_bought = usage_in(connection, windows, zone)
    left = None
    if settings.credits_usd:
        left = max(0, round(settings.credits_usd * 1e6) - since_bought.cost_micros)
    facts = Facts(
        spent_month=month.cost_micros,
        burnt=burnt.cost_micros,
        burnt_calls=burnt.requests,
        burnt_days=(now - since).total_seconds() / DAY_S,
        days_left=(month_end - now).total_seconds() / DAY_S,
        credits_left=left,
    )
    return compute(facts, demand)


def compute(facts: Facts, demand: Demand) -> Forecast:
    """The forecast. Pure. Runway is by the faster of the two burns: it is a warning, not a promise."""
    measured = planned = None
    if facts.burnt_days >= 1 / 24 and facts.burnt:
        measured = round(facts.burnt / facts.burnt_days)
    if facts.burnt_calls and facts.burnt:
        planned = round(demand.calls_per_day * facts.burnt / facts.burnt_calls)
    fastest = max(measured or 0, planned or 0)
    runway = None
    if facts.credits_left is not None and fastest:
        runway = round(facts.credits_left / fastest, 1)

    def month(per_day: int | None) -> int | None:
        return None if per_day is None else round(facts.spent_month + per_day * facts.days_left)

    return Forecast(
        per_day_measured=measured,
        per_day_planned=planned,
        month_measured=month(measured),
        month_planned=month(planned),
        credits_left=facts.credits_left,
        runway_days=runway,
        basis=f"measured over the last {facts.burnt_days:.1f} days; planned: {demand.basis}, at the "
        "measured cost of a call",
    )
