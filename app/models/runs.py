"""Runs: one agent's turn, in one cycle or asked for by hand."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.agents import Agent
from app.models.columns import CreatedAt, Id, one_of


class RunState(StrEnum):
    """Where a run stands. The first three are open, the others are for good."""

    QUEUED = "queued"
    RUNNING = "running"
    SNOOZED = "snoozed"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    QUARANTINED = "quarantined"


class RunOrigin(StrEnum):
    """Origin of the run."""

    CYCLE = "cycle"
    ADHOC = "adhoc"


class Run(Base):
    """One turn. Unique by agent and cycle; an ad-hoc run has no cycle."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("agent_id", "cycle_at"),
        one_of("state", RunState),
        one_of("origin", RunOrigin),
        CheckConstraint("(origin = 'cycle') = (cycle_at is not null)", name="cycle_has_time"),
        CheckConstraint("agent_id is not null or state = 'failed'", name="agent_known"),
        CheckConstraint(
            "(state in ('queued', 'running', 'snoozed')) = (finished_at is null)", name="finished"
        ),
        Index(
            "ix_runs_open",
            "state",
            "due_at",
            postgresql_where=text("state in ('queued', 'running', 'snoozed')"),
        ),
        Index("ix_runs_cycle_at_due_at_id", "cycle_at", "due_at", "id"),
        Index(
            "ix_runs_came_to_nothing",
            "due_at",
            "id",
            postgresql_where=text("state in ('failed', 'skipped', 'quarantined')"),
        ),
        Index("ix_runs_group_id", "group_id", postgresql_where=text("group_id is not null")),
        Index("ix_runs_agent_id_created_at", "agent_id", "created_at"),
        Index("ix_runs_finished_at", "finished_at"),
        Index("ix_runs_to_continue", "finished_at", postgresql_where=text("not is_continued")),
    )

    id: Mapped[Id]
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey(Agent.id))
    asked_for: Mapped[str | None] = mapped_column(comment="what an ad-hoc caller gave as agent")
    cycle_at: Mapped[datetime | None]
    due_at: Mapped[datetime] = mapped_column(comment="start of the slice that opened it")
    expires_at: Mapped[datetime | None] = mapped_column(comment="not begun by then: skipped")
    origin: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=RunState.QUEUED)
    reason: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"), comment="fencing number")
    wake_at: Mapped[datetime | None] = mapped_column(comment="snoozed until then")
    ticket: Mapped[int | None] = mapped_column(BigInteger, comment="place in admission's line")
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(comment="who holds or last held it")
    losses: Mapped[int] = mapped_column(
        server_default=text("0"), comment="times its worker went silent while holding it"
    )
    published_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="when workers were last told of it"
    )
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    options: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="of its message: queue, chain, chord, links"
    )
    group_id: Mapped[str | None] = mapped_column(comment="Celery's group that it is of")
    is_continued: Mapped[bool | None] = mapped_column(
        comment="whether what follows it was begun; null: nothing does"
    )
    cancelled_by: Mapped[str | None] = mapped_column(comment="who ended it before its time")
