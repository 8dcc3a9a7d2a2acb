"""Folding refusals of the gateway into incidents: one with a start and an end instead of 900 rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, exists, func, insert, select, text, update

from app.kinds import FLEET_WIDE, Effect, Kind
from app.models import Call, CallStatus, Incident

QUIET = timedelta(minutes=2)
"""An incident is over when nothing was refused for this long."""

FORGOTTEN = timedelta(hours=1)
"""A pause after 429 lasts no longer, so then an incident is over although nobody called."""
TOGETHER = timedelta(minutes=10)
"""Refusals that several runs have to see must come within this time."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Result of one round."""

    opened: tuple[UUID, ...] = ()
    closed: tuple[UUID, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.opened)} opened, {len(self.closed)} closed"


def fold(connection: Connection, stop: str | None = None) -> Folded:
    """Bring incidents up to date with the ledger; `stop` is the kind of answer that admission says stops all
    calls. Rounds at the same time take turns.
    """
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.incidents'))"))
    opened: list[UUID] = []
    closed: list[UUID] = []
    for kind in FLEET_WIDE:
        current = connection.execute(
            select(Incident.id, Incident.opened_at).where(
                Incident.kind == kind.code, Incident.closed_at.is_(None)
            )
        ).one_or_none()
        if current is None:
            after = _end_of_last(connection, kind)
            first = _first_since(connection, kind, after, is_confirmed=stop == kind.code)
            if first is None:
                continue
            incident_id = connection.execute(
                insert(Incident)
                .values(kind=kind.code, opened_at=first, last_at=first, calls=0, agents=0, peak_per_minute=0)
                .returning(Incident.id)
            ).scalar_one()
            opened.append(incident_id)
            started = first
        else:
            incident_id, started = current
        _recount(connection, incident_id, kind, started)
        if kind.effect is Effect.PAUSE:
            is_quiet = Incident.last_at < func.now() - QUIET
            done = _end(connection, incident_id, is_quiet & _pause_is_over(), Incident.last_at)
        else:
            answered = _first_answer(kind, started)
            done = _end(connection, incident_id, answered.is_not(None), answered)
        closed += done
    return Folded(tuple(opened), tuple(closed))


def _end(connection: Connection, incident_id: UUID, is_over: ColumnElement[bool], at: Any) -> list[UUID]:
    """End an incident if it is over; returns it if it was."""
    mine = update(Incident).where(Incident.id == incident_id, is_over).values(closed_at=at)
    return list(connection.execute(mine.returning(Incident.id)).scalars())


def end_all(connection: Connection) -> None:
    """End the incidents that are open: a person resumed. A later refusal opens another incident."""
    fold(connection)
    connection.execute(update(Incident).where(Incident.closed_at.is_(None)).values(closed_at=func.now()))


def _pause_is_over() -> ColumnElement[bool]:
    """A pause after 429 is over when a call is answered, or when it cannot last any longer."""
    answered = exists().where(Call.status == CallStatus.OK, Call.created_at > Incident.last_at)
    return answered | (Incident.last_at < func.now() - FORGOTTEN)


def _first_answer(kind: Kind, since: datetime) -> ColumnElement[Any]:
    """When a stop was over: the first answered call that began after the last refusal came. Until then it
    lasts, however long nobody asks: probes are far apart.
    """
    came = func.coalesce(Call.finished_at, Call.created_at)
    last = select(func.max(came)).where(*_refused(kind), Call.created_at >= since)
    first = select(func.min(Call.created_at)).where(
        Call.status == CallStatus.OK, Call.created_at > last.scalar_subquery()
    )
    return first.scalar_subquery()


def _end_of_last(connection: Connection, kind: Kind) -> datetime | None:
    end = func.greatest(Incident.last_at, Incident.closed_at)
    query = select(func.max(end)).where(Incident.kind == kind.code)
    last: datetime | None = connection.execute(query).scalar_one()
    return last


def _refused(kind: Kind) -> tuple[ColumnElement[bool], ...]:
    # `status <> 'ok'` lets the partial index of what went wrong serve.
    return Call.error_code == kind.code, Call.status != "ok"


def _first_since(
    connection: Connection, kind: Kind, after: datetime | None, *, is_confirmed: bool
) -> datetime | None:
    """The first refusal that no incident holds yet; None when too few runs saw it since a call was answered,
    and admission has not stopped for it.
    """
    since = func.now() - timedelta(days=1) if after is None else after
    query = select(func.min(Call.created_at), func.count(Call.run_id.distinct())).where(
        *_refused(kind), Call.created_at > since
    )
    if kind.runs_to_confirm > 1:
        query = query.where(Call.created_at > func.now() - TOGETHER)
        if not is_confirmed:
            answered = select(func.max(Call.created_at)).where(
                Call.status == CallStatus.OK, Call.created_at > func.now() - TOGETHER
            )
            query = query.where(
                Call.created_at > func.coalesce(answered.scalar_subquery(), text("'-infinity'"))
            )
    first, runs = connection.execute(query).one()
    return first if runs >= (1 if is_confirmed else kind.runs_to_confirm) else None


def _recount(connection: Connection, incident_id: UUID, kind: Kind, since: datetime) -> None:
    where = (*_refused(kind), Call.created_at >= since)
    minute = func.date_trunc("minute", Call.created_at)
    per_minute = select(func.count().label("n")).where(*where).group_by(minute).subquery()
    row = connection.execute(
        select(func.count(), func.count(Call.agent_id.distinct()), func.max(Call.created_at)).where(*where)
    ).one()
    peak = connection.execute(select(func.max(per_minute.c.n))).scalar_one()
    connection.execute(
        update(Incident)
        .where(Incident.id == incident_id)
        .values(calls=row[0], agents=row[1], last_at=func.coalesce(row[2], since), peak_per_minute=peak or 0)
    )


def list_incidents(
    connection: Connection, limit: int = 50, *, is_open: bool = False
) -> list[dict[str, object]]:
    """The newest incidents; `is_open`: only those that are not over."""
    columns = (
        Incident.id,
        Incident.kind,
        Incident.opened_at,
        Incident.last_at,
        Incident.closed_at,
        Incident.calls,
        Incident.agents,
        Incident.peak_per_minute,
    )
    query = select(*columns).order_by(Incident.opened_at.desc()).limit(limit)
    if is_open:
        query = query.where(Incident.closed_at.is_(None))
    return [dict(row._mapping) for row in connection.execute(query)]
