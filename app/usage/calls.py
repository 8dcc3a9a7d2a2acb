"""The call ledger: a row before every attempt, closed exactly once after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.models import Call, CallStatus


@dataclass(frozen=True, slots=True)
class OpenedCall:
    """An attempt that has its row. `id` is the request id that goes to the gateway."""

    id: UUID
    model: str
    tokens_reserved: int


def call_id(run_id: UUID, step: str, attempt: int) -> UUID:
    """The request id of an attempt: the same for the same run, step and attempt, for ever."""
    return uuid5(run_id, f"{step}/{attempt}")


def last_attempt(
    connection: Connection, agent_id: UUID, run_id: UUID, since: datetime, step: str
) -> int:
    """The number of the step's latest attempt, by whichever worker; 0 for none.

    `since` is when the run was opened: the ledger is indexed by agent and time, not by run.
    """
    query = select(func.coalesce(func.max(Call.attempt), 0)).where(
        Call.agent_id == agent_id,
        Call.created_at >= since,
        Call.run_id == run_id,
        Call.step == step,
    )
    return connection.execute(query).scalar_one()


def open_call(
    connection: Connection,
    *,
    run_id: UUID,
    agent_id: UUID,
    step: str,
    attempt: int,
    request_type: str,
    model: str,
    tokens_reserved: int,
) -> OpenedCall | None:
    """Insert the row of an attempt, `in_flight`; None if that attempt has one (it is not ours)."""
    opened = OpenedCall(call_id(run_id, step, attempt), model, tokens_reserved)
    inserted = connection.execute(
        insert(Call)
        .values(
            id=opened.id,
            run_id=run_id,
            agent_id=agent_id,
            step=step,
            attempt=attempt,
            request_type=request_type,
            model=model,
            tokens_reserved=tokens_reserved,
        )
        .on_conflict_do_nothing()
    )
    return opened if inserted.rowcount else None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attempt; tokens are None when the gateway did not say."""

    status: CallStatus
    latency_ms: int
    error_code: str | None = None
    http_status: int | None = None
    tokens_input: int | None = None
    tokens_output: int | None = None
    cost_micros: int | None = None


def close_call(connection: Connection, call: OpenedCall, result: Result) -> bool:
    """Write the outcome into the row; False if it was closed before."""
    used = None
    if result.tokens_input is not None and result.tokens_output is not None:
        used = result.tokens_input + result.tokens_output
    closed = connection.execute(
        update(Call)
        .where(Call.id == call.id, Call.status.in_((CallStatus.IN_FLIGHT, CallStatus.UNKNOWN)))
        .values(
            status=result.status,
            error_code=result.error_code,
            http_status=result.http_status,
            tokens_input=result.tokens_input,
            tokens_output=result.tokens_output,
            tokens_used=used,
            cost_micros=result.cost_micros,
            latency_ms=result.latency_ms,
            finished_at=func.now(),
        )
    )
    return closed.rowcount > 0


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Attempts since some moment, by what came of them."""

    ok: int = 0
    rate_limited: int = 0
    credits_exhausted: int = 0
    other_errors: int = 0
    in_flight: int = 0
    unknown: int = 0
    tokens_used: int = 0
    cost_micros: int = 0
    unpriced: int = 0

    @property
    def total(self) -> int:
        """All attempts."""
        return sum((self.ok, self.rate_limited, self.credits_exhausted, self.other_errors)) + sum(
            (self.in_flight, self.unknown)
        )


def count_calls(connection: Connection, since: datetime) -> CallCounts:
    """Sums over the ledger from `since` on."""
    ok, in_flight = Call.status == CallStatus.OK, Call.status == CallStatus.IN_FLIGHT
    limited, broke = Call.http_status == 429, Call.http_status == 402
    count = func.count()
    row = connection.execute(
        select(
            count.filter(ok),
            count.filter(limited),
            count.filter(broke),
            count.filter(
                Call.status == CallStatus.ERROR,
                func.coalesce(Call.http_status, 0).not_in((429, 402)),
            ),
            count.filter(in_flight),
            count.filter(Call.status == CallStatus.UNKNOWN),
            func.coalesce(func.sum(Call.tokens_used), 0),
            func.coalesce(func.sum(Call.cost_micros), 0),
            count.filter(ok, Call.cost_micros.is_(None)),
        ).where(Call.created_at >= since)
    ).one()
    return CallCounts(*(int(value) for value in row))


def calls_of_run(
    connection: Connection, agent_id: UUID, run_id: UUID, since: datetime
) -> Iterator[dict[str, object]]:
    """The run's attempts in order, as plain values; `since` is when the run was opened."""
    query = (
        select(
            Call.id, Call.step, Call.attempt, Call.model, Call.status, Call.error_code,
            Call.http_status, Call.tokens_input, Call.tokens_output, Call.cost_micros, Call.latency_ms,
        )
        .where(Call.agent_id == agent_id, Call.created_at >= since, Call.run_id == run_id)
        .order_by(Call.created_at, Call.id)
    )  # fmt: skip
    for row in connection.execute(query):
        yield dict(row._mapping)
