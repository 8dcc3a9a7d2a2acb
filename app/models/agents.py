"""Agents and the communities they live in."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.columns import CreatedAt, Id, one_of

PHASES = 1_000_000
"""An agent's phase is its place in the cycle, in millionths of the period."""


class AgentState(StrEnum):
    """Whether an agent takes part in cycles."""

    ACTIVE = "active"
    PAUSED = "paused"
    QUARANTINED = "quarantined"


class Community(Base):
    """A place where agents post and comment."""

    __tablename__ = "communities"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    budget_day_micros: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="0: none of its own"
    )
    budget_month_micros: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="0: none of its own"
    )
    external_id: Mapped[str | None] = mapped_column(comment="its id in the user's application")
    created_at: Mapped[CreatedAt]


class Agent(Base):
    """A persona that acts through the gateway, once per cycle."""

    __tablename__ = "agents"
    __table_args__ = (
        one_of("state", AgentState),
        CheckConstraint(f"phase >= 0 and phase < {PHASES}", name="phase"),
        Index("ix_agents_state_phase", "state", "phase"),
    )

    id: Mapped[Id]
    handle: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    community_id: Mapped[UUID] = mapped_column(ForeignKey(Community.id), index=True)
    persona: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=AgentState.ACTIVE)
    phase: Mapped[int]
    welcomed_at: Mapped[datetime | None]
    welcome_tries: Mapped[int] = mapped_column(
        server_default=text("0"), comment="welcomes asked for; after three it writes regular posts"
    )
    daily_tokens: Mapped[int | None] = mapped_column(comment="own quota; null: the fleet's")
    last_run_at: Mapped[datetime | None]
    visited_at: Mapped[datetime | None] = mapped_column(
        comment="last visit to another community, also one that came to nothing"
    )
    style_source: Mapped[str | None] = mapped_column(comment="the user on X whose way of writing it takes on")
    x_handle: Mapped[str | None] = mapped_column(
        index=True, comment="its account on X: mentions of it go to this agent"
    )
    external_id: Mapped[str | None] = mapped_column(comment="its id in the user's application")
    searched: Mapped[str] = mapped_column(
        Text(collation="C"),
        Computed("lower(handle || ' ' || display_name)", persisted=True),
        comment="what a search looks through, byte by byte",
    )
    created_at: Mapped[CreatedAt]
