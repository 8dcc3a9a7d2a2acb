"""Incidents, and the messages about them and about thresholds."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.kinds import FLEET_WIDE
from app.models.columns import CreatedAt, Id

KINDS = tuple(kind.code for kind in FLEET_WIDE)
"""Kinds of answers that stop every call (app.kinds)."""


class Incident(Base):
    """Refusals of one kind that belong together. At most one of a kind is open."""

    __tablename__ = "incidents"
    __table_args__ = (
        CheckConstraint(f"kind in ({', '.join(map(repr, KINDS))})", name="kind"),
        Index("uq_incidents_open", "kind", unique=True, postgresql_where=text("closed_at is null")),
        Index("ix_incidents_opened_at", "opened_at"),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    opened_at: Mapped[datetime] = mapped_column(comment="its first refusal")
    last_at: Mapped[datetime] = mapped_column(comment="its latest refusal")
    closed_at: Mapped[datetime | None]
    calls: Mapped[int] = mapped_column(comment="calls that were refused")
    agents: Mapped[int] = mapped_column(comment="agents that were hit")
    peak_per_minute: Mapped[int]


class Alert(Base):
    """A message that is to be sent, or was. One per key: a key names the threshold and the period."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("key"),
        Index("ix_alerts_unsent", "next_try_at", postgresql_where=text("sent_at is null")),
    )

    id: Mapped[Id]
    key: Mapped[str]
    severity: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_try_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_error: Mapped[str | None]
