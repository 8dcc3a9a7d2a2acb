"""Liveness by effect: each periodic job says here that it has done a round, and what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, ScalarSelect, func, select
from sqlalchemy.dialects.postgresql import insert

from app.models import Job
from app.settings import Settings

OPEN_SLICE = "cycles.open"
CHECK_BOOKS = "books.check"
WATCH = "alerts.watch"
RECONCILE = "limits.reconcile"


@dataclass(frozen=True, slots=True)
class LastRound:
    """When a job was last done, by the database's clock, and what it said."""

    name: str
    done_at: datetime
    age_s: float
    result: str


def done(connection: Connection, name: str, result: str) -> None:
    """Note that a job has done its work."""
    row = {"done_at": func.now(), "result": result[:500]}
    connection.execute(
        insert(Job).values(name=name, **row).on_conflict_do_update(index_elements=["name"], set_=row)
    )


def last_rounds(connection: Connection) -> list[LastRound]:
    """The last round of every job that ever ran, by name."""
    age = func.extract("epoch", func.now() - Job.done_at)
    query = select(Job.name, Job.done_at, age, Job.result).order_by(Job.name)
    return [LastRound(row[0], row[1], float(row[2]), row[3]) for row in connection.execute(query)]


def silence_s() -> ScalarSelect[Any]:
    """For how many seconds no slice was opened, by anybody, as part of a query; null if none ever was."""
    age = func.extract("epoch", func.now() - Job.done_at)
    return select(age).where(Job.name == OPEN_SLICE).scalar_subquery()


def scheduler_silence(connection: Connection) -> timedelta | None:
    """For how long no slice was opened, by anybody; None if none ever was. Negative: it was opened in the
    future of the database's clock, so that clock went back.
    """
    age_s = connection.execute(select(silence_s())).scalar_one()
    return None if age_s is None else timedelta(seconds=float(age_s))


FUTURE_S = 5.0
"""A job that was done so far in the future tells that the database's clock went back since."""


def is_silent(age_s: float, settings: Settings) -> bool:
    """Whether the scheduler does not work, or nobody can tell: its last slice is too old or in the future."""
    return age_s > longest_silence(settings).total_seconds() or age_s < -FUTURE_S


def say_age(age_s: float) -> str:
    """When the last slice was opened, in words."""
    if age_s < -FUTURE_S:
        return f"the last slice is {-age_s:.0f} s in the future, because PostgreSQL's clock went back"
    return f"last slice opened {max(0.0, age_s):.0f} s ago"


def longest_silence(settings: Settings) -> timedelta:
    """A scheduler that is silent for longer than this is not working: two slices and a bit."""
    return timedelta(seconds=2 * settings.cycle.slice_length_s + 10)
