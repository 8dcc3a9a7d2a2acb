"""Deliveries of the events of a run: where each arrived, and how soon."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, String, cast, func, select

from app.integration.deliveries import APP
from app.models import Delivery, OutboxEvent, Webhook


@dataclass(frozen=True, slots=True)
class Step:
    """One event for one receiver. `took_s`: from when it was written until it arrived; None: it has not."""

    event: str
    text: str
    written_at: datetime
    where: str
    state: str
    tries: int
    took_s: float | None
    error: str | None


def of_run(connection: Connection, run_id: UUID) -> list[Step]:
    """In the order in which the events were written; nothing when nobody is connected."""
    run = OutboxEvent.payload["run"].astext
    query = (
        select(
            OutboxEvent.kind,
            func.coalesce(OutboxEvent.payload["body"].astext, ""),
            OutboxEvent.created_at,
            Delivery.receiver,
            Webhook.url,
            Delivery.state,
            Delivery.tries,
            func.extract("epoch", Delivery.done_at - OutboxEvent.created_at),
            Delivery.error,
        )
        .join(Delivery, Delivery.event_id == OutboxEvent.id)
        .join(Webhook, cast(Webhook.id, String) == Delivery.receiver, isouter=True)
        .where(run == str(run_id), run.is_not(None))
        .order_by(OutboxEvent.id, Delivery.id)
    )
    return [
        Step(
            kind,
            body,
            at,
            "the app" if receiver == APP else url or "a webhook that is gone",
            state,
            tries,
            None if took is None else max(0.0, float(took)),
            error,
        )
        for kind, body, at, receiver, url, state, tries, took, error in connection.execute(query)
    ]
