"""Rollups of the ledger. An hour and a day are those of the business time zone."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.agents import Agent
from app.models.columns import CreatedAt


class _Sums:
    """Sums of calls. `cost_micros` and `tokens_used` leave out what is not known: `cost_unknown_micros` and
    `tokens_unknown` were reserved for it. `unpriced` counts answered calls of models without a price.
    """

    requests: Mapped[int]
    tokens_input: Mapped[int] = mapped_column(BigInteger)
    tokens_output: Mapped[int] = mapped_column(BigInteger)
    tokens_used: Mapped[int] = mapped_column(BigInteger)
    tokens_unknown: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    cost_unknown_micros: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    unpriced: Mapped[int]


class HourlyUsage(_Sums, Base):
    """One hour of one agent, by what it asked of which model and what came of it. Kept for a few days;
    days and the fleet's hours are made from it.
    """

    __tablename__ = "ai_usage_hourly"
    __table_args__ = (Index("ix_ai_usage_hourly_agent_id_hour", "agent_id", "hour"),)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id), primary_key=True)
    request_type: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)


class DailyUsage(_Sums, Base):
    """One day of one agent, the same way."""

    __tablename__ = "ai_usage_daily"
    __table_args__ = (Index("ix_ai_usage_daily_agent_id_day", "agent_id", "day"),)

    day: Mapped[date] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id), primary_key=True)
    request_type: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)


class FleetHourlyUsage(_Sums, Base):
    """One hour of the whole fleet; kept for good."""

    __tablename__ = "ai_usage_fleet_hourly"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    request_type: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)


class AgentDailyUsage(_Sums, Base):
    """One day of one agent in one row: what lists of agents are made from."""

    __tablename__ = "ai_usage_agent_daily"

    day: Mapped[date] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id), primary_key=True)
    ok: Mapped[int]
    rate_limited: Mapped[int]
    credits_exhausted: Mapped[int]


class LatencyHourly(Base):
    """How long answered calls took: a histogram that can be added up. See app.usage.latency."""

    __tablename__ = "ai_latency_hourly"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    request_type: Mapped[str] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True)
    requests: Mapped[int]


class UsageDay(Base):
    """A day whose rollups were found equal to the ledger. Nothing of it is written any more."""

    __tablename__ = "usage_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int]
    tokens_used: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    frozen_at: Mapped[CreatedAt]


class UsageState(Base):
    """One row: when the ledger was last rolled up, and whose days and hours the rollups are of."""

    __tablename__ = "usage_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, server_default=text("1"))
    rolled_at: Mapped[datetime]
    watermark: Mapped[datetime | None] = mapped_column(comment="calls before it are summed up, and final")
    watermark_of: Mapped[datetime | None] = mapped_column(
        comment="the rolled_at of the round that wrote it: the release before writes none"
    )
    zone: Mapped[str | None] = mapped_column(comment="the business time zone of the rollups")


class Ranking(Base):
    """Ranking of use over a span, as of a moment. See app.usage.ranking."""

    __tablename__ = "usage_rankings"

    span: Mapped[str] = mapped_column(primary_key=True)
    by: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime]
    took_ms: Mapped[int]
    rows: Mapped[list[Any]] = mapped_column(JSONB, comment="[name, sums], the first of every metric")


class Denial(Base):
    """Calls that admission did not allow, by minute and reason; never one row each."""

    __tablename__ = "denials"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]
