"""Rollups of the ledger. An hour and a day are those of the business time zone."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.agents import Agent


class _Sums:
    """What is summed. `cost_micros` leaves out the `unpriced` requests, which have no known price."""

    requests: Mapped[int]
    tokens_input: Mapped[int] = mapped_column(BigInteger)
    tokens_output: Mapped[int] = mapped_column(BigInteger)
    tokens_used: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    unpriced: Mapped[int]


class HourlyUsage(_Sums, Base):
    """One hour of one agent, by what it asked of which model and what came of it."""

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
