"""How each receiver stands, as one value each: for pages, API, metrics, alerts and doctor."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from app.integration.deliveries import APP
from app.models import AppLink, Delivery, DeliveryState, LinkState, OutboxEvent, Webhook

LATE_S = 600.0
"""An event that waits for longer is told of."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One receiver. `lag_s`: how long the oldest event waits; `error`: of the last try that failed."""

    id: str
    where: str
    state: str
    reason: str | None
    since: datetime
    pending: int
    dead: int
    lag_s: float
    error: str | None

    @property
    def is_late(self) -> bool:
        """Whether events wait for too long although nobody paused it."""
        return self.state == "active" and self.lag_s > LATE_S


def read_standing(connection: Connection) -> list[Standing]:
    """The application first, then webhooks by age; nothing when nothing is connected."""
    link = connection.execute(
        select(AppLink.name, AppLink.state, AppLink.reason, AppLink.since).where(
            AppLink.state != LinkState.DISCONNECTED
        )
    ).one_or_none()
    hooks = connection.execute(
        select(Webhook.id, Webhook.url, Webhook.state, Webhook.reason, Webhook.created_at).order_by(
            Webhook.created_at
        )
    ).all()
    rows = (
        [(APP, f"tables of your application ({link.name})", link.state, link.reason, link.since)]
        if link
        else []
    )
    rows += [(str(hook.id), hook.url, hook.state, hook.reason, hook.created_at) for hook in hooks]
    if not rows:
        return []
    counts = _counts(connection)
    return [Standing(*row, *counts.get(row[0], (0, 0, 0.0, None))) for row in rows]


def _counts(connection: Connection) -> dict[str, tuple[int, int, float, str | None]]:
    """Condition for events that have not arrived: what has is many, and no index needs to be read for it."""
    count, waits = func.count(), Delivery.state == DeliveryState.PENDING
    lag = func.extract("epoch", func.now() - func.min(OutboxEvent.created_at).filter(waits))
    found = (
        select(
            Delivery.receiver,
            count.filter(waits).label("pending"),
            count.filter(~waits).label("dead"),
            func.coalesce(lag, 0).label("lag"),
            func.max(Delivery.id).filter(Delivery.error.is_not(None)).label("newest"),
        )
        .join(OutboxEvent, OutboxEvent.id == Delivery.event_id)
        .where(or_(waits, Delivery.state == DeliveryState.DEAD))
        .group_by(Delivery.receiver)
        .subquery()
    )
    newest = Delivery.id == found.c.newest
    query = select(found, Delivery.error).join(Delivery, newest, isouter=True)
    return {
        row.receiver: (row.pending, row.dead, float(row.lag), row.error) for row in connection.execute(query)
    }


def holds_back(connection: Connection, backlog_max: int) -> str | None:
    """Why no run is started: more events wait for the application than a setting allows; else None."""
    if not backlog_max:
        return None
    waiting = select(Delivery.id).where(Delivery.receiver == APP, Delivery.state == DeliveryState.PENDING)
    count = connection.execute(
        select(func.count()).select_from(waiting.limit(backlog_max + 1).subquery())
    ).scalar_one()
    if count <= backlog_max:
        return None
    return f"more than {backlog_max} events wait for the application (PACELINE_APP__BACKLOG_MAX)"
