"""The way out: events, their deliveries, and who receives them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, JSON, BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, one_of

_PENDING = text("state = 'pending'")


class LinkState(StrEnum):
    """Whether the application gets anything. Paused: events wait; disconnected: none are made."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISCONNECTED = "disconnected"


class WebhookState(StrEnum):
    """Whether a webhook gets requests. Disabled: it said that it wants none (410)."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """Delivery of one event to one receiver. Dead: it can be looked at and sent again."""

    PENDING = "pending"
    DONE = "done"
    DEAD = "dead"


class AppLink(Base):
    """The link into the user's application: one row, or none."""

    __tablename__ = "app_link"
    __table_args__ = (CheckConstraint("id = 1", name="one"), one_of("state", LinkState))

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    reason: Mapped[str | None] = mapped_column(comment="why it is paused")
    mapping: Mapped[dict[str, Any]] = mapped_column(JSON)
    name: Mapped[str] = mapped_column(comment="the preset, or the file's name")
    since: Mapped[datetime] = mapped_column(server_default=func.now())


class Webhook(Base):
    """A receiver by HTTP. The secret is here as it is, because it signs."""

    __tablename__ = "webhooks"
    __table_args__ = (one_of("state", WebhookState),)

    id: Mapped[Id]
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="patterns of LIKE")
    secret: Mapped[str]
    old_secret: Mapped[str | None] = mapped_column(comment="signs too until old_until")
    old_until: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default=WebhookState.ACTIVE)
    reason: Mapped[str | None] = mapped_column(comment="why it is paused or disabled")
    rests_until: Mapped[datetime | None] = mapped_column(
        comment="it did not take an event, and is asked for none until then"
    )
    created_at: Mapped[CreatedAt]


class OutboxEvent(Base):
    """Something that happened, as receivers are told. Written by triggers, in the statement that did it."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_created_at", "created_at"),
        Index(
            "ix_outbox_run",
            text("(payload ->> 'run')"),
            postgresql_where=text("payload ->> 'run' is not null"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(comment="post.published and its like")
    thread: Mapped[UUID] = mapped_column(comment="events of one are delivered in order")
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]


class Delivery(Base):
    """One event for one receiver."""

    __tablename__ = "deliveries"
    __table_args__ = (
        one_of("state", DeliveryState),
        Index("ix_deliveries_event_id", "event_id"),
        Index("ix_deliveries_due", "receiver", "next_at", postgresql_where=_PENDING),
        Index("ix_deliveries_thread", "receiver", "thread", "id", postgresql_where=_PENDING),
        Index("ix_deliveries_dead", "receiver", "id", postgresql_where=text("state = 'dead'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(OutboxEvent.id, ondelete="cascade"))
    receiver: Mapped[str] = mapped_column(comment="app, or a webhook's id")
    thread: Mapped[UUID]
    state: Mapped[str] = mapped_column(server_default=DeliveryState.PENDING)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    done_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(comment="of the last try")
