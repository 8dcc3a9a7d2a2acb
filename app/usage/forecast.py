"""When the credits end, and what the month will cost: from what was burnt and from what is planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app.clock import day_window, month_window
from app.settings import UsageSettings
from app.usage.reports import Measured, measure

WINDOW_DAYS = 7
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Planned demand of the fleet: calls per day, by the cap at most."""

    calls_per_day: float
    basis: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Basis of a forecast, in micro-dollars. `burnt_days` is how long `burnt` took."""

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
    """Read the facts in one query, and compute."""
    found = measure(connection, forecast_windows(settings, now, zone), zone)
    return as_forecast(settings, demand, now, zone, found)


def forecast_windows(
    settings: UsageSettings, now: datetime, zone: ZoneInfo
) -> list[tuple[datetime, datetime]]:
    """Windows that a forecast asks for: the last days, this month, and since credits were bought."""
    since = day_window(now - timedelta(days=WINDOW_DAYS), zone)[0]
    windows = [(since, now), (month_window(now, zone)[0], now)]
    if settings.credits_usd:
        bought = settings.credits_since or datetime(2000, 1, 1, tzinfo=UTC)
        # Whole hours, because that is what rollups know.
        windows.append((min(bought.replace(minute=0, second=0, microsecond=0), now), now))
    return windows


def as_forecast(
    settings: UsageSettings, demand: Demand, now: datetime, zone: ZoneInfo, found: Sequence[Measured]
) -> Forecast:
    """The forecast from what was used in `forecast_windows`."""
    burnt, month, *since_bought = found
    left = None
    if since_bought:
        left = max(0, round(settings.credits_usd * 1e6) - since_bought[0].usage.cost_micros)
    since = day_window(now - timedelta(days=WINDOW_DAYS), zone)[0]
    facts = Facts(
        spent_month=month.usage.cost_micros,
        burnt=burnt.usage.cost_micros,
        burnt_calls=burnt.usage.requests,
        burnt_days=(now - max(since, burnt.first or now)).total_seconds() / DAY_S,
        days_left=(month_window(now, zone)[1] - now).total_seconds() / DAY_S,
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

    over = (
        "nothing measured yet"
        if measured is None
        else (f"measured over the last {facts.burnt_days:.1f} days")
    )

    def month(per_day: int | None) -> int | None:
        return None if per_day is None else round(facts.spent_month + per_day * facts.days_left)

    return Forecast(
        per_day_measured=measured,
        per_day_planned=planned,
        month_measured=month(measured),
        month_planned=month(planned),
        credits_left=facts.credits_left,
        runway_days=runway,
        basis=f"{over}; planned: {demand.basis}, at the measured cost of a call",
    )
