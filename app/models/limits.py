"""What an operator sets while the fleet runs, and who changed what."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id


class Limits(Base):
    """One row: the limits in force. 0 means no limit; `version` grows with every change."""

    __tablename__ = "limits"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        CheckConstraint("rate > 0 and burst >= 1 and max_wait_s > 0", name="possible"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, server_default=text("1"))
    version: Mapped[int]
    rate: Mapped[float] = mapped_column(comment="calls per second")
    burst: Mapped[int]
    max_wait_s: Mapped[float] = mapped_column(comment="longest wait for a permit on a worker")
    tokens_per_minute: Mapped[int]
    agent_daily_tokens: Mapped[int]
    budget_day_micros: Mapped[int] = mapped_column(BigInteger)
    budget_month_micros: Mapped[int] = mapped_column(BigInteger)
    paused_until: Mapped[datetime | None]
    seed: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the settings it was made from")
    updated_at: Mapped[CreatedAt]


class AuditEntry(Base):
    """One change by a person or by the environment."""

    __tablename__ = "audit_log"

    id: Mapped[Id]
    at: Mapped[CreatedAt] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    before: Mapped[dict[str, Any]] = mapped_column(JSONB)
    after: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[str]
