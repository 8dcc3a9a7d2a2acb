"""Calls that admission did not allow: counted by minute and reason, never one row each."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from app.models import Denial


def count(connection: Connection, reason: str) -> None:
    """One call more was not allowed, now, for this reason."""
    minute = func.date_trunc("minute", func.now())
    row = insert(Denial).values(minute=minute, reason=reason, calls=1)
    connection.execute(
        row.on_conflict_do_update(index_elements=["minute", "reason"], set_={"calls": Denial.calls + 1})
    )


@dataclass(frozen=True, slots=True)
class Denied:
    """How often a reason was given, and in its worst minute."""

    reason: str
    calls: int
    peak_per_minute: int


def denied_between(connection: Connection, start: datetime, until: datetime) -> list[Denied]:
    """Denied calls by reason, the most frequent first."""
    total = func.sum(Denial.calls)
    query = (
        select(Denial.reason, total, func.max(Denial.calls))
        .where(Denial.minute >= start, Denial.minute < until)
        .group_by(Denial.reason)
        .order_by(total.desc(), Denial.reason)
    )
    return [Denied(row[0], int(row[1]), int(row[2])) for row in connection.execute(query)]
