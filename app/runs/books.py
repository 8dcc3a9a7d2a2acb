"""Proving the books: the gateway's own tally, the ledger and the counters in Redis, joined by request id.

Everything that differs is a number. Unknown values have a number of their own: a worker that died
took the answer with it, so its call counts what was reserved, whatever the gateway counted.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import Connection, Select, func, select

from app.admission.circuit import StoreAway
from app.clock import utcnow
from app.gateway.tally import Answered, SandboxTally
from app.models import Call, CallStatus, Comment, Post, Run
from app.runs.services import Services
from app.runs.states import OPEN
from app.runs.upkeep import find_drift
from app.usage import differences
from app.usage.calls import count_usage_problems

DETAILS_MAX = 50
RECENT_DAYS = 35
"""The frozen days that the periodic check compares: what the pages show."""


@dataclass
class Books:
    """Result of a comparison: what was compared, and the differences; all zero is what must be."""

    gateway: str = "not compared: it keeps no tally"
    gateway_requests: int = 0
    ledger_rows: int = 0
    redis: str = "compared"
    differences: dict[str, int] = field(default_factory=dict)
    uncertain: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    details: list[str] = field(default_factory=list)
    """Each difference in words: which day, agent, request or counter, and which numbers."""

    @property
    def total(self) -> int:
        """All differences together."""
        return sum(self.differences.values())


def audit(services: Services, tally: SandboxTally | None, *, is_whole: bool = True) -> Books:
    """Compare. Safe while the fleet works: what is under way is counted, not compared. Without `whole` it
    leaves out the comparisons that read all rows there ever were.
    """
    books = Books()
    began = tally.started_at() if tally else None
    if tally and began:
        books.gateway = f"compared, since {began:%Y-%m-%d %H:%M:%S} UTC"
        _compare_gateway(services, tally, began, books)
    snapshot = services.engine.execution_options(isolation_level="REPEATABLE READ")
    with snapshot.connect() as connection:  # a round of rollups may end in between
        if is_whole:
            books.differences |= _runs(connection)
        sums = differences.find_differences(
            connection, services.settings.zone, None if is_whole else RECENT_DAYS
        )
        books.differences["rollups"] = len(sums)
        books.details += [f"rollups: {difference}" for difference in sums]
        if is_whole and not books.ledger_rows:
            query = select(func.count()).select_from(Call)
            books.ledger_rows = connection.execute(query).scalar_one()
        since = began or utcnow() - timedelta(days=1)
        books.uncertain["usage_contradicts_itself"] = count_usage_problems(connection, since)
    try:
        # A counter may be ahead of the ledger for the moment between two commits: look twice.
        first = {(drift.counter, drift.redis, drift.ledger) for drift in find_drift(services)}
        second = {(drift.counter, drift.redis, drift.ledger) for drift in find_drift(services)}
        busy = services.admission.state().reserved
        if busy:
            books.redis = f"compared, {busy} calls under way"
            books.uncertain["redis_counters_under_way"] = len(first & second)
        else:
            books.differences["redis_counters"] = len(first & second)
            books.details += [
                f"redis: {counter} is {counted:,}, the ledger says {right:,}"
                for counter, counted, right in sorted(first & second)[:DETAILS_MAX]
            ]
    except (StoreAway, RedisError) as error:
        books.redis = f"not compared: {error}"
    return books


def _compare_gateway(services: Services, tally: SandboxTally, began: datetime, books: Books) -> None:
    """The gateway is read before the ledger and after it: a row is there before its request."""
    before = list(tally.new())
    with services.engine.connect() as connection:
        ledger = _ledger(connection, began - timedelta(seconds=1))
        paid_twice = _paid_twice(connection, began)
    after = list(tally.new())
    seen = [*before, *after]
    by_id: dict[UUID, Answered] = {a.request_id: a for a in seen if a.request_id}
    repeated = Counter(a.request_id for a in seen)
    books.gateway_requests, books.ledger_rows = len(seen), len(ledger)
    books.differences = {
        "unrecorded": sum(a.request_id not in ledger for a in before),
        "not_at_gateway": 0,
        "status_differs": 0,
        "tokens_differ": 0,
        "request_id_repeated": sum(count - 1 for count in repeated.values()),
    }
    books.uncertain = {"unknown_and_answered": 0, "unknown_and_never_sent": 0}
    books.uncertain["steps_paid_twice"] = paid_twice
    unrecorded = [a.request_id for a in before if a.request_id not in ledger]
    books.details += [f"gateway: request {one} is not in the ledger" for one in unrecorded[:DETAILS_MAX]]
    for request_id, row in ledger.items():
        theirs = by_id.get(request_id)
        is_unsure = row.status == CallStatus.UNKNOWN or row.http_status is None
        if row.status == CallStatus.IN_FLIGHT:
            books.in_flight += 1
        elif is_unsure:
            books.uncertain["unknown_and_answered" if theirs else "unknown_and_never_sent"] += 1
        elif theirs is None:
            books.differences["not_at_gateway"] += 1
            _add(books, f"ledger: request {request_id} never reached the gateway")
        elif row.http_status != theirs.status:
            books.differences["status_differs"] += 1
            _add(books, f"request {request_id}: HTTP {row.http_status} here, {theirs.status} at the gateway")
        elif row.tokens is not None and row.tokens != (theirs.tokens_input, theirs.tokens_output):
            books.differences["tokens_differ"] += 1
            counted = (theirs.tokens_input, theirs.tokens_output)
            _add(books, f"request {request_id}: {row.tokens} tokens here, {counted} at the gateway")


def _add(books: Books, detail: str) -> None:
    if len(books.details) < DETAILS_MAX:
        books.details.append(detail)


@dataclass(frozen=True, slots=True)
class _Row:
    status: str
    http_status: int | None
    tokens: tuple[int, int] | None


def _ledger(connection: Connection, since: datetime) -> dict[UUID, _Row]:
    query = select(Call.id, Call.status, Call.http_status, Call.tokens_input, Call.tokens_output).where(
        Call.created_at >= since
    )
    found = {}
    for row in connection.execute(query.execution_options(yield_per=5_000)):
        has_usage = row.tokens_input is not None and row.tokens_output is not None
        tokens = (row.tokens_input, row.tokens_output) if has_usage else None
        found[row.id] = _Row(row.status, row.http_status, tokens)
    return found


def _paid_twice(connection: Connection, since: datetime) -> int:
    """Steps answered twice: a worker went silent after its call, another one asked again. One result
    is stored; both were paid for, and both are in the ledger.
    """
    paid = (
        select(Call.run_id)
        .where(Call.status == CallStatus.OK, Call.created_at >= since)
        .group_by(Call.run_id, Call.step)
        .having(func.count() > 1)
    )
    return connection.execute(select(func.count()).select_from(paid.subquery())).scalar_one()


def _runs(connection: Connection) -> dict[str, int]:
    """Runs that hang, effects stored twice."""
    overdue = func.now() - timedelta(minutes=10)
    hanging = select(func.count()).where(Run.state.in_(OPEN), Run.expires_at < overdue)
    posts = select(Post.run_id).group_by(Post.run_id).having(func.count() > 1)
    comments = select(Comment.run_id).group_by(Comment.run_id, Comment.slot).having(func.count() > 1)

    def count(query: Select[*tuple[Any, ...]]) -> int:
        return connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()

    return {
        "runs_hanging": connection.execute(hanging).scalar_one(),
        "effects_doubled": count(posts) + count(comments),
    }
