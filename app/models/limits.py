"""Settings that an operator changes while the fleet runs, and the change log."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, one_of


class Review(StrEnum):
    """Texts that wait for a person's approval before they are published."""

    NOTHING = "nothing"
    POSTS = "posts"
    ALL = "all"


class Links(StrEnum):
    """Treatment of links in a text: kept, taken out, or the whole text refused."""

    ALLOW = "allow"
    REMOVE = "remove"
    REFUSE = "refuse"


class OverBudget(StrEnum):
    """Rule for a budget that is used up."""

    STOP = "stop"
    POSTS_ONLY = "posts_only"
    CHEAPER_MODEL = "cheaper_model"


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


class Controls(Base):
    """One row: what agents may do and publish now. A cap of 0 means none."""

    __tablename__ = "controls"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        one_of("review", Review),
        one_of("links", Links),
        one_of("over_budget", OverBudget),
    )

    id: Mapped[int] = mapped_column(primary_key=True, server_default=text("1"))
    version: Mapped[int]
    dry_run: Mapped[bool] = mapped_column(comment="write, record, publish nothing")
    review: Mapped[str] = mapped_column(comment="what waits for a person's approval")
    paused_activities: Mapped[list[str]] = mapped_column(JSONB)
    posts_per_hour: Mapped[int]
    posts_per_day: Mapped[int]
    comments_per_hour: Mapped[int]
    comments_per_day: Mapped[int]
    banned_words: Mapped[list[str]] = mapped_column(JSONB)
    links: Mapped[str] = mapped_column(comment="what becomes of links")
    duplicates_s: Mapped[int] = mapped_column(comment="how long a text may not be said again")
    over_budget: Mapped[str] = mapped_column(
        server_default=OverBudget.STOP, comment="what happens when a budget is used up"
    )
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
    actor_kind: Mapped[str | None] = mapped_column(
        comment="person, token, command, celery, environment, program"
    )
    account_id: Mapped[UUID | None] = mapped_column(comment="of a person or a token; the account may be gone")
    address: Mapped[str | None] = mapped_column(comment="where a person or a token came from")
