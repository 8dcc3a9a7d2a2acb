"""Deliveries: which are due, what became of them. Events of one thread go one after the other."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from app.models import Delivery, DeliveryState, OutboxEvent

APP = "app"
WAITS_S = (1, 5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200, 86_400)
"""After the first try, the second ... : a day and a half in all."""


@dataclass(frozen=True, slots=True)
class Due:
    """One delivery that is to be made now."""

    id: int
    event_id: int
    kind: str
    payload: dict[str, Any]
    tries: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """How one receiver stands. `lag_s`: how old the oldest event is that waits."""

    receiver: str
    pending: int
    dead: int
    done: int
    lag_s: float | None
    error: str | None


def due(receiver: str, limit: int) -> Select[*tuple[Any, ...]]:
    """A query of deliveries whose time has come, locked; at most one of each thread, the earliest."""
    earlier = aliased(Delivery)
    is_first = ~exists().where(
        earlier.receiver == Delivery.receiver,
        earlier.thread == Delivery.thread,
        earlier.state == DeliveryState.PENDING,
        earlier.id < Delivery.id,
    )
    return (
        select(
            Delivery.id,
            Delivery.event_id,
            OutboxEvent.kind,
            OutboxEvent.payload,
            Delivery.tries,
            OutboxEvent.created_at,
        )
        .join(OutboxEvent, OutboxEvent.id == Delivery.event_id)
        .where(
            Delivery.receiver == receiver,
            Delivery.state == DeliveryState.PENDING,
            Delivery.next_at <= func.now(),
            is_first,
        )
        .order_by(Delivery.id)
        .limit(limit)
        .with_for_update(of=Delivery, skip_locked=True)
    )


def take(connection: Connection, receiver: str, limit: int) -> list[Due]:
    """Deliveries that are due, locked until the transaction ends."""
    return [Due(*found) for found in connection.execute(due(receiver, limit))]


def claim(connection: Connection, receiver: str, limit: int, lease: timedelta) -> list[Due]:
    """Deliveries that are due, left alone by others for so long: they are made without a transaction."""
    found = take(connection, receiver, limit)
    ids = [one.id for one in found]
    later = update(Delivery).where(Delivery.id.in_(ids))
    connection.execute(later.values(next_at=func.now() + lease))
    return found


def done(connection: Connection, delivery_id: int, note: str | None = None) -> None:
    """It arrived."""
    own = update(Delivery).where(Delivery.id == delivery_id)
    connection.execute(
        own.values(state=DeliveryState.DONE, done_at=func.now(), error=note, tries=Delivery.tries + 1)
    )


def waiting_s(tries: int) -> float:
    """How long to wait after so many tries, with some chance in it: who failed together tries apart."""
    return WAITS_S[min(max(tries, 1), len(WAITS_S)) - 1] * (0.8 + 0.4 * random())


def again(
    connection: Connection,
    delivery: Due,
    error: str,
    *,
    tries_max: int = len(WAITS_S),
    wait_s: float | None = None,
) -> None:
    """It did not arrive: later again, with some chance in when; dead after so many tries."""
    tries = delivery.tries + 1
    is_over = tries > tries_max
    wait = waiting_s(tries) if wait_s is None else wait_s
    own = update(Delivery).where(Delivery.id == delivery.id)
    connection.execute(
        own.values(
            state=DeliveryState.DEAD if is_over else DeliveryState.PENDING,
            tries=tries,
            next_at=func.now() + timedelta(seconds=wait),
            error=error[:500],
        )
    )


def postpone(connection: Connection, delivery_id: int, wait_s: float) -> None:
    """Still to be tried, later."""
    own = update(Delivery).where(Delivery.id == delivery_id)
    connection.execute(own.values(next_at=func.now() + timedelta(seconds=wait_s)))


def die(connection: Connection, delivery_id: int, error: str) -> None:
    """It can never arrive."""
    own = update(Delivery).where(Delivery.id == delivery_id)
    connection.execute(own.values(state=DeliveryState.DEAD, error=error[:500], tries=Delivery.tries + 1))


def revive(connection: Connection, receiver: str, since: datetime | None = None) -> int:
    """Send again: the dead, or with `since` every event from then on; returns how many."""
    which: ColumnElement[bool] = Delivery.state == DeliveryState.DEAD
    if since is not None:
        events = select(OutboxEvent.id).where(OutboxEvent.created_at >= since)
        which = or_(which, Delivery.event_id.in_(events))
    own = update(Delivery).where(
        Delivery.receiver == receiver, Delivery.state != DeliveryState.PENDING, which
    )
    fresh = own.values(state=DeliveryState.PENDING, tries=0, next_at=func.now(), done_at=None)
    return connection.execute(fresh).rowcount


def add(connection: Connection, receiver: str, kind: str, thread: UUID, payload: dict[str, Any]) -> int:
    """An event for one receiver only; returns the delivery."""
    event = insert(OutboxEvent).values(kind=kind, thread=thread, payload=payload)
    event_id = connection.execute(event.returning(OutboxEvent.id)).scalar_one()
    row = insert(Delivery).values(event_id=event_id, receiver=receiver, thread=thread)
    return connection.execute(row.returning(Delivery.id)).scalar_one()


def backlog(connection: Connection, receiver: str) -> Backlog:
    """How a receiver stands."""
    mine = Delivery.receiver == receiver
    count = func.count()
    pending, made, dead = (Delivery.state == state for state in DeliveryState)
    row = connection.execute(
        select(count.filter(pending), count.filter(dead), count.filter(made)).where(mine)
    ).one()
    oldest = (
        select(func.extract("epoch", func.now() - OutboxEvent.created_at))
        .join(Delivery, Delivery.event_id == OutboxEvent.id)
        .where(mine, Delivery.state == DeliveryState.PENDING)
        .order_by(Delivery.id)
        .limit(1)
    )
    lag = connection.execute(oldest).scalar_one_or_none()
    last = (
        select(Delivery.error)
        .where(mine, Delivery.error.is_not(None), Delivery.state != DeliveryState.DONE)
        .order_by(Delivery.id.desc())
        .limit(1)
    )
    error = connection.execute(last).scalar_one_or_none()
    return Backlog(receiver, row[0], row[1], row[2], None if lag is None else float(lag), error)


def dead_letters(
    connection: Connection, receiver: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return dead letters of one receiver or of all, the newest first."""
    query = (
        select(
            Delivery.id,
            Delivery.receiver,
            OutboxEvent.kind,
            OutboxEvent.created_at,
            Delivery.tries,
            Delivery.error,
            OutboxEvent.payload,
        )
        .join(OutboxEvent, OutboxEvent.id == Delivery.event_id)
        .where(Delivery.state == DeliveryState.DEAD)
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    if receiver is not None:
        query = query.where(Delivery.receiver == receiver)
    return [dict(found._mapping) for found in connection.execute(query)]


def forget(connection: Connection, keep: timedelta, limit: int = 5_000) -> int:
    """Remove old events that nobody waits for; returns how many."""
    waits = exists().where(Delivery.event_id == OutboxEvent.id, Delivery.state != DeliveryState.DONE)
    old = (
        select(OutboxEvent.id)
        .where(OutboxEvent.created_at < func.now() - keep, ~waits)
        .limit(limit)
        .scalar_subquery()
    )
    return connection.execute(delete(OutboxEvent).where(OutboxEvent.id.in_(old))).rowcount


def drop(connection: Connection, receiver: str) -> int:
    """Forget what waits for a receiver that is gone; returns how many."""
    gone = delete(Delivery).where(Delivery.receiver == receiver)
    return connection.execute(gone).rowcount
