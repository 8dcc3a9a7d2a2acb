"""The stretches of time that people ask for, in the business time zone: today, this week, this month, ..."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app.clock import day_window, month_window
from app.usage.reports import Measured, Usage, measure


class Span(StrEnum):
    """A stretch that begins at a midnight and lasts until now."""

    TODAY = "today"
    WEEK = "week"
    MONTH = "month"
    DAYS_30 = "30d"
    DAYS_90 = "90d"


SPANS = {
    Span.TODAY: "today",
    Span.WEEK: "this week",
    Span.MONTH: "this month",
    Span.DAYS_30: "the last 30 days",
    Span.DAYS_90: "the last 90 days",
}


def span_start(span: Span, now: datetime, zone: ZoneInfo) -> datetime:
    """The midnight that a span begins at."""
    if span in (Span.DAYS_30, Span.DAYS_90):
        return _midnight_days_ago(now, zone, 29 if span is Span.DAYS_30 else 89)
    return period_start(SPANS[span], now, zone)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time with what was used in it, and in the one before up to the same point."""

    name: str
    start: datetime
    until: datetime
    usage: Usage
    before: Usage


NAMES = ("today", "this week", "this month")


def periods(connection: Connection, now: datetime, zone: ZoneInfo) -> list[Period]:
    """Today, this week (from Monday) and this month, each beside the one before, in one query."""
    return as_periods(now, zone, measure(connection, period_windows(now, zone), zone))


def period_windows(now: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """The windows that `periods` asks for: of each name its own, and the one before."""
    wanted = []
    for name in NAMES:
        start, before = _starts(name, now, zone)
        wanted += [(start, now), (before, min(before + (now - start), start))]
    return wanted


def as_periods(now: datetime, zone: ZoneInfo, found: Sequence[Measured]) -> list[Period]:
    """Return the use in `period_windows`, by name."""
    wanted = period_windows(now, zone)
    return [
        Period(name, *wanted[2 * n], found[2 * n].usage, found[2 * n + 1].usage)
        for n, name in enumerate(NAMES)
    ]


def period_start(name: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Where `today`, `this week` or `this month` began."""
    return _starts(name, now, zone)[0]


def _starts(name: str, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start of the period that holds `now`, and of the one before, in local midnights."""
    if name == "this month":
        start, _ = month_window(now, zone)
        return start, month_window(start - timedelta(days=1), zone)[0]
    if name == "this week":
        weekday = now.astimezone(zone).weekday()
        start = _midnight_days_ago(now, zone, weekday)
        return start, _midnight_days_ago(now, zone, weekday + 7)
    start, _ = day_window(now, zone)
    return start, _midnight_days_ago(now, zone, 1)


def _midnight_days_ago(now: datetime, zone: ZoneInfo, days: int) -> datetime:
    noon = now.astimezone(zone).replace(hour=12, minute=0, second=0, microsecond=0)
    return day_window(noon - timedelta(days=days), zone)[0]  # noon: no clock change reaches it
