"""The ledger: one row per attempt at the gateway, inserted before the attempt."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.models.agents import Agent
from app.models.columns import CreatedAt, one_of


class CallStatus(StrEnum):
    """Result of an attempt. `unknown`: its worker died before it could say."""

    IN_FLIGHT = "in_flight"
    OK = "ok"
    ERROR = "error"
    UNKNOWN = "unknown"


class Call(Base):
    """One attempt at the gateway. `id` is the X-Request-Id that went with it.

    Partitioned by day (UTC) of `created_at`, so that old days are dropped, not deleted. The id follows
    from run, step and attempt; `app.usage.calls.open_call` keeps it unique, because a key of a
    partitioned table must hold the time.

    Tokens are LLM tokens; `tokens_used` is input plus output as the gateway counted them, cached tokens
    are part of the input and reasoning tokens of the output. Cost is in millionths of a US dollar and
    NULL, never 0, when the model has no known price.
    """

    __tablename__ = "ai_request_log"
    __table_args__ = (
        PrimaryKeyConstraint("created_at", "id"),  # in this order it serves ranges of time, too
        one_of("status", CallStatus),
        Index("ix_ai_request_log_agent_id_created_at", "agent_id", "created_at"),
        Index("ix_ai_request_log_not_ok", "created_at", postgresql_where=text("status <> 'ok'")),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    id: Mapped[UUID]
    run_id: Mapped[UUID]
    agent_id: Mapped[UUID] = mapped_column(ForeignKey(Agent.id))
    step: Mapped[str] = mapped_column(comment="which of the run's activities: post, comment.0, ...")
    attempt: Mapped[int] = mapped_column(comment="1 for the first try of the step")
    request_type: Mapped[str]
    model: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=CallStatus.IN_FLIGHT)
    error_code: Mapped[str | None]
    http_status: Mapped[int | None]
    tokens_reserved: Mapped[int]
    tokens_input: Mapped[int | None]
    tokens_output: Mapped[int | None]
    tokens_used: Mapped[int | None]
    tokens_cached: Mapped[int | None] = mapped_column(comment="part of tokens_input")
    tokens_reasoning: Mapped[int | None] = mapped_column(comment="part of tokens_output")
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    cost_reserved: Mapped[int | None] = mapped_column(
        BigInteger, comment="micro-dollars booked for it; they count where the cost is unknown"
    )
    cost_reported: Mapped[int | None] = mapped_column(
        BigInteger, comment="micro-dollars that the gateway itself reported; wins over list prices"
    )
    usage_problem: Mapped[str | None] = mapped_column(
        comment="numbers of its usage that contradict each other or cannot be true, as they were sent"
    )
    latency_ms: Mapped[int | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
