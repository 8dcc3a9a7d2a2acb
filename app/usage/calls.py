"""The call ledger: a row before every attempt, closed exactly once after it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Insert,
    Integer,
    Select,
    Text,
    Update,
    Uuid,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from app.kinds import BILLABLE, CREDITS_EXHAUSTED, RATE_LIMITED
from app.models import Agent, Call, CallStatus, UsageDay
from app.money import dollars


@dataclass(frozen=True, slots=True)
class OpenedCall:
    """An attempt that has its row. `id` is the request id that goes to the gateway; with the time it
    names the row, because the ledger is cut up by time.
    """

    id: UUID
    created_at: datetime
    model: str
    tokens_reserved: int


def call_id(run_id: UUID, step: str, attempt: int) -> UUID:
    """The request id of an attempt: the same for the same run, step and attempt, for ever."""
    return uuid5(run_id, f"{step}/{attempt}")


UNDER_WAY = timedelta(minutes=15)
"""A call that was not heard of for longer counts as spent; the longest by the settings takes some minutes."""


def attempts_made(connection: Connection, agent_id: UUID, run_id: UUID, since: datetime) -> dict[str, int]:
    """The number of each step's latest attempt, by whichever worker.

    `since` is when the run was opened: the ledger is indexed by agent and time, not by run.
    """
    query = (
        select(Call.step, func.max(Call.attempt).label("latest"))
        .where(Call.agent_id == agent_id, Call.created_at >= since, Call.run_id == run_id)
        .group_by(Call.step)
    )
    return {row.step: row.latest for row in connection.execute(query)}


def opening(held: CTE) -> Insert:
    """The statement that makes the row of an attempt, `in_flight`, with the run that `held` renews
    (app.runs.leases); none if the run is another's by now.

    So nobody else can number an attempt of this run: who holds it counts on from `attempts_made`.
    """
    values = {
        Call.id: bindparam("request_id", type_=Uuid()),
        Call.run_id: held.c.id,
        Call.agent_id: held.c.agent_id,
        Call.step: bindparam("step", type_=Text),
        Call.attempt: bindparam("attempt", type_=Integer),
        Call.request_type: bindparam("request_type", type_=Text),
        Call.model: bindparam("model", type_=Text),
        Call.tokens_reserved: bindparam("tokens_reserved", type_=Integer),
        Call.cost_reserved: bindparam("cost_reserved", type_=BigInteger),
    }
    row = select(*values.values()).select_from(held)
    return insert(Call).from_select(list(values), row).returning(Call.created_at)


def closing() -> Update:
    """The statement that writes an outcome into its row, once, with the values of `outcome`."""
    return (
        update(Call)
        .where(
            Call.created_at == bindparam("call_at"),
            Call.id == bindparam("call_id"),
            (Call.status == CallStatus.IN_FLIGHT) | (Call.status == CallStatus.UNKNOWN),
        )
        .values({name: bindparam(name) for name in _OUTCOME} | {"finished_at": func.now()})
        .returning(Call.id)
    )


_OUTCOME = (
    "status",
    "error_code",
    "http_status",
    "tokens_input",
    "tokens_output",
    "tokens_used",
    "tokens_cached",
    "tokens_reasoning",
    "cost_micros",
    "cost_reported",
    "usage_problem",
    "latency_ms",
)


def withdraw_call(connection: Connection, call: OpenedCall) -> None:
    """Take back the row of an attempt that was never made: admission refused it before its time."""
    is_it = _is(call) & (Call.status == CallStatus.IN_FLIGHT)
    connection.execute(delete(Call).where(is_it))


def _is(call: OpenedCall) -> ColumnElement[bool]:
    return (Call.created_at == call.created_at) & (Call.id == call.id)


@dataclass(frozen=True, slots=True)
class Result:
    """Result of an attempt; tokens are None when the gateway did not say."""

    status: CallStatus
    latency_ms: int
    error_code: str | None = None
    http_status: int | None = None
    tokens_input: int | None = None
    tokens_output: int | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    cost_micros: int | None = None
    cost_reported: int | None = None
    usage_problem: str | None = None

    @property
    def tokens_used(self) -> int | None:
        """Input and output together; None when the gateway did not say."""
        if self.tokens_input is None or self.tokens_output is None:
            return None
        return self.tokens_input + self.tokens_output

    @property
    def may_be_billed(self) -> bool:
        """Whether an attempt that did not say its tokens may have cost some: the rule of `is_unsure`."""
        return self.status is not CallStatus.ERROR or self.error_code in BILLABLE


def outcome(call: OpenedCall, result: Result) -> dict[str, Any]:
    """Return the row that `closing` closes, and its values."""
    known = {name: getattr(result, name) for name in _OUTCOME}
    return known | {"status": str(result.status), "call_at": call.created_at, "call_id": call.id}


def give_up(connection: Connection, deadline: timedelta) -> int:
    """Mark calls that are in flight for longer than any call may take; returns how many.

    Their worker died. They may have been paid for, so they count what was reserved.
    """
    # A frozen day has none in flight; a day more, for the time zone.
    frozen = select(func.max(UsageDay.day) - 1).scalar_subquery()
    oldest = func.coalesce(cast(frozen, DateTime(timezone=True)), text("'-infinity'"))
    given_up = connection.execute(
        update(Call)
        .where(
            Call.status == CallStatus.IN_FLIGHT,
            Call.created_at < func.now() - deadline,
            Call.created_at >= oldest,
        )
        .values(status=CallStatus.UNKNOWN, error_code="worker_lost", finished_at=func.now())
    )
    return given_up.rowcount


def is_unsure() -> ColumnElement[bool]:
    """Rows that may cost something nobody has told: in flight, their worker died, no whole answer came, or an
    answer did not say. A call that the gateway refused costs nothing.
    """
    may_cost = (CallStatus.IN_FLIGHT, CallStatus.UNKNOWN, CallStatus.OK)
    return Call.status.in_(may_cost) | Call.error_code.in_(BILLABLE)


def tokens_billable() -> ColumnElement[int]:
    """Tokens that a row counts against quotas: the tokens used or, where nobody knows, those reserved."""
    return func.coalesce(Call.tokens_used, case((is_unsure(), Call.tokens_reserved), else_=0))


def held_by_community(connection: Connection) -> dict[UUID, int]:
    """Micro-dollars reserved by calls under way, by community. A call that was not heard of for longer is
    given up and counts as spent.
    """
    query = (
        select(Agent.community_id, func.coalesce(func.sum(Call.cost_reserved), 0).label("micros"))
        .join(Agent, Agent.id == Call.agent_id)
        .where(Call.status == CallStatus.IN_FLIGHT, Call.created_at > func.now() - UNDER_WAY)
        .group_by(Agent.community_id)
    )
    return {row.community_id: int(row.micros) for row in connection.execute(query)}


def billable_of_agent(agent_id: UUID, since: datetime) -> Select[*tuple[Any, ...]]:
    """A query of the billable tokens of one agent since then; null when it called nothing."""
    return select(func.sum(tokens_billable())).where(Call.agent_id == agent_id, Call.created_at >= since)


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


def counts_since(since: datetime) -> Select[*tuple[Any, ...]]:
    """A query of one row: the fields of CallCounts, summed over the ledger from `since` on."""
    ok, in_flight = Call.status == CallStatus.OK, Call.status == CallStatus.IN_FLIGHT
    count, code = func.count(), func.coalesce(Call.error_code, "")
    rate_limited, credits = code == RATE_LIMITED.code, code == CREDITS_EXHAUSTED.code
    is_other = (Call.status == CallStatus.ERROR) & ~rate_limited & ~credits
    columns: tuple[ColumnElement[Any], ...] = (
        count.filter(ok),
        count.filter(rate_limited),
        count.filter(credits),
        count.filter(is_other),
        count.filter(in_flight),
        count.filter(Call.status == CallStatus.UNKNOWN),
        func.coalesce(func.sum(Call.tokens_used), 0),
        func.coalesce(func.sum(Call.cost_micros), 0),
        count.filter(ok, Call.cost_micros.is_(None)),
    )
    names = CallCounts.__slots__
    named = [column.label(name) for name, column in zip(names, columns, strict=True)]
    return select(*named).where(Call.created_at >= since)


def calls_of_runs(
    connection: Connection, agents: Collection[UUID], runs: Collection[UUID], since: datetime
) -> dict[UUID, list[dict[str, Any]]]:
    """The attempts of runs of these agents in order, as plain values, by run; `since` is when the first of
    the runs was opened.
    """
    query = (
        select(
            Call.run_id,
            Call.id,
            Call.step,
            Call.attempt,
            Call.model,
            Call.status,
            Call.error_code,
            Call.http_status,
            Call.tokens_input,
            Call.tokens_output,
            Call.cost_micros,
            Call.cost_reserved,
            Call.usage_problem,
            Call.latency_ms,
        )
        .where(Call.agent_id.in_(agents), Call.created_at >= since, Call.run_id.in_(runs))
        .order_by(Call.created_at, Call.id)
    )
    found: dict[UUID, list[dict[str, Any]]] = {run_id: [] for run_id in runs}
    for row in connection.execute(query).mappings():
        values = dict(row)
        found[values.pop("run_id")].append(values)
    return found


def say_cost(call: Mapping[str, Any]) -> str:
    """Return the cost of a call of `calls_of_runs` in words."""
    cost, reserved = call["cost_micros"], call["cost_reserved"]
    if cost is not None:
        return dollars(cost)
    if call["status"] == CallStatus.ERROR and call["error_code"] not in BILLABLE:
        return "costs nothing"
    if call["status"] == CallStatus.IN_FLIGHT:
        return "under way"
    if reserved is None:
        return "no known price"
    return f"cost unknown, {dollars(reserved)} reserved"


def count_between(connection: Connection, since: datetime, until: datetime) -> int:
    """How many calls there are in `since <= at < until`."""
    query = select(func.count()).where(Call.created_at >= since, Call.created_at < until)
    return connection.execute(query).scalar_one()


def calls_between(connection: Connection, since: datetime, until: datetime) -> Iterator[dict[str, object]]:
    """Every call in that time with all its columns and its agent's handle, in order, streamed."""
    query = (
        select(Agent.handle.label("agent"), *Call.__table__.columns)
        .join(Agent, Agent.id == Call.agent_id)
        .where(Call.created_at >= since, Call.created_at < until)
        .order_by(Call.created_at, Call.id)
    )
    for row in connection.execute(query.execution_options(yield_per=5_000)):
        yield dict(row._mapping)


def count_usage_problems(connection: Connection, since: datetime) -> int:
    """Calls whose usage contradicts itself or cannot be true."""
    query = select(func.count()).where(Call.created_at >= since, Call.usage_problem.is_not(None))
    return connection.execute(query).scalar_one()
