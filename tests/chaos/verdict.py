"""What is left when the storm is over: everything that was lost, doubled, unrecorded or over the cap."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, func, select, union_all

from app.clock import monotonic
from app.gateway.sandbox.state import StrictLimit
from app.gateway.tally import SandboxTally
from app.models import Call, CallStatus, Comment, ContentState, Post, PostKind, Run, RunState
from app.refusals import EXPIRED, EXPIRED_ADHOC
from app.runs.books import audit
from app.runs.states import OPEN
from tests.chaos import history
from tests.chaos.application import WayOut
from tests.chaos.fleet import CAPACITY, QUOTA, RATE, Fleet
from tests.support.ledger import tokens_by_agent

NEVER_TAKEN_MAX, LATE_MAX = 0.5, 0.1
"""Shares of the runs and of the calls: more of them is no storm any more, but a fault of ours."""
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class Recovery:
    """How long the runs of a dead worker took to be in other hands."""

    waiting: dict[Any, tuple[int, float]] = field(default_factory=dict)
    slowest_s: float = 0.0
    count: int = 0

    def mourn(self, fleet: Fleet, workers: list[str]) -> None:
        """Note the runs that these workers held."""
        names = [f"{name}@chaos" for name in workers]
        with fleet.engine.connect() as connection:
            query = select(Run.id, Run.attempt).where(Run.state == RunState.RUNNING, Run.worker.in_(names))
            for run_id, attempt in connection.execute(query):
                self.waiting.setdefault(run_id, (attempt, monotonic()))

    def look(self, fleet: Fleet) -> None:
        """Which of them have been taken or ended since."""
        if not self.waiting:
            return
        with fleet.engine.connect() as connection:
            query = select(Run.id, Run.attempt, Run.state).where(Run.id.in_(list(self.waiting)))
            for run_id, attempt, state in connection.execute(query):
                was, since = self.waiting[run_id]
                if attempt > was or state not in OPEN:
                    self.slowest_s = max(self.slowest_s, monotonic() - since)
                    self.count += 1
                    del self.waiting[run_id]


@dataclass(frozen=True)
class Verdict:
    """All that matters in numbers."""

    faults: int
    """Those that were done."""
    not_possible: int
    """Those that another fault prevented."""
    runs: int
    calls: int
    lost: int
    """Runs that never ended, and calls that are under way for ever."""
    never_taken: int
    """Runs that no worker took before their cycle ended."""
    doubled: int
    """See `count_doubled`."""
    unrecorded: int
    violations: int
    """Calls that a gateway with room for a burst of CAPACITY would have refused."""
    violations_strict: int
    """The same for the room that the docs ask for, max(2, rate / 10). A process that is frozen between its
    permit and its request sends it late, and nobody can take it back: these are the storm's own.
    """
    books_differ: int
    over_quota: int
    """Agents that used more than their quota, by the gateway's count."""
    over_quota_as_reserved: int
    """The same with calls of unknown outcome counted as reserved."""
    gets: int
    """Runs that a shell asked for by `delay` and waited for by `get`, all the time."""
    gets_untrue: int
    """Those of which `get` did not say what the row says, or never came back."""
    forgotten: int
    """Runs that retention deleted during the storm; all other numbers count them, too."""
    calls_unknown: int
    paid_twice: int
    """Calls repeated because a worker went silent after its call: recorded, stored once."""
    recoveries: int
    slowest_recovery_s: float
    states: dict[str, int]
    differences: dict[str, int]
    way_out: WayOut

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing twice, everything recorded, the cap held; little that nobody took."""
        return not (
            self.lost
            or self.doubled
            or self.unrecorded
            or self.violations
            or self.books_differ
            or self.over_quota
            or self.gets_untrue
            or not self.way_out.is_good
            or self.never_taken > self.runs * NEVER_TAKEN_MAX
            or self.violations_strict > self.calls * LATE_MAX
        )

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self) | {"good": self.is_good}


def judge(fleet: Fleet, faults: int, not_possible: int, recovery: Recovery) -> Verdict:
    """Look at the database, the gateway's record and Redis, when everything is quiet."""
    tally = SandboxTally(fleet.gateway)
    try:
        books = audit(fleet.services, tally)
    finally:
        tally.close()
    with fleet.engine.begin() as connection:
        forgotten = history.bring_back(connection)
    with fleet.engine.connect() as connection:
        rows = connection.execute(select(Run.state, func.count()).group_by(Run.state))
        states: dict[str, int] = {row[0]: row[1] for row in rows}
        unknown = connection.execute(select(func.count()).where(Call.status == "unknown")).scalar_one()
        reserved = tokens_by_agent(connection, EPOCH)
        in_flight, doubled = count_in_flight(connection), count_doubled(connection)
        never_taken = count_never_taken(connection)
        agents = dict(connection.execute(select(Call.id, Call.agent_id)).all())
    used: Counter[Any] = Counter()
    for seen in fleet.seen():
        tokens = seen["tokens_input"] + seen["tokens_output"]
        used[agents.get(UUID(seen["request_id"]))] += tokens
    arrivals = sorted(seen["at_us"] for seen in fleet.seen())
    found = books.differences
    gets, gets_untrue = judge_gets(fleet)
    return Verdict(
        faults=faults,
        not_possible=not_possible,
        runs=sum(states.values()),
        calls=len(arrivals),
        lost=sum(states.get(state, 0) for state in OPEN) + in_flight,
        never_taken=never_taken,
        doubled=doubled + found["request_id_repeated"],
        paid_twice=books.uncertain.get("steps_paid_twice", 0),
        unrecorded=found["unrecorded"],
        violations=violations(arrivals),
        violations_strict=violations(arrivals, max(2, RATE // 10)),
        books_differ=books.total,
        over_quota=sum(tokens > QUOTA for tokens in used.values()),
        over_quota_as_reserved=sum(tokens > QUOTA for tokens in reserved.values()),
        gets=gets,
        gets_untrue=gets_untrue,
        forgotten=forgotten,
        calls_unknown=unknown,
        recoveries=recovery.count,
        slowest_recovery_s=round(recovery.slowest_s, 1),
        states=states,
        differences=found,
        way_out=fleet.application.judge(),
    )


def judge_gets(fleet: Fleet) -> tuple[int, int]:
    """How many gets there were, and of how many the row says something else."""
    lines = fleet.told.read_text().splitlines() if fleet.told.exists() else []
    told = {UUID(line["id"]): line["told"] for line in map(json.loads, lines)}
    with fleet.engine.connect() as connection:
        query = select(Run.id, Run.state, Run.cancelled_by).where(Run.id.in_(list(told)))
        truth = {row.id: truth_of(row.state, row.cancelled_by) for row in connection.execute(query)}
    unheard = fleet.shell.popen.poll() is None
    return len(told), sum(truth.get(run_id) != said for run_id, said in told.items()) + unheard


def truth_of(state: str, cancelled_by: str | None) -> str:
    """What `get` has to say of a run that ended so."""
    if cancelled_by is not None:
        return "TaskRevokedError"
    return "RunFailed" if state in (RunState.FAILED, RunState.QUARANTINED) else state


def violations(arrivals_us: list[int], capacity: int = CAPACITY) -> int:
    """Calls that a gateway with this rate and capacity would have refused, by its own clock."""
    limit = StrictLimit()
    return sum(not limit.allows(at * 1000, RATE, capacity) for at in arrivals_us)


def count_in_flight(connection: Connection) -> int:
    """Calls that are under way."""
    query = select(func.count()).where(Call.status == CallStatus.IN_FLIGHT)
    return connection.execute(query).scalar_one()


def count_never_taken(connection: Connection) -> int:
    """Runs that ended with their cycle before any worker took them."""
    query = select(func.count()).where(
        Run.state == RunState.SKIPPED, Run.attempt == 0, Run.reason.in_((EXPIRED, EXPIRED_ADHOC))
    )
    return connection.execute(query).scalar_one()


def count_doubled(connection: Connection) -> int:
    """What a person would see twice, or pay for without a call: agents that welcomed twice, agents with two
    posts of one cycle, texts that one agent published twice, and texts that no answered call wrote.
    """
    is_seen = Post.state == ContentState.PUBLISHED
    welcomes = (
        select(Post.agent_id)
        .where(Post.kind == PostKind.WELCOME, is_seen)
        .group_by(Post.agent_id)
        .having(func.count() > 1)
    )
    in_cycle = (
        select(Run.agent_id, Run.cycle_at)
        .join(Post, Post.run_id == Run.id)
        .where(Run.cycle_at.is_not(None), is_seen)
        .group_by(Run.agent_id, Run.cycle_at)
        .having(func.count() > 1)
    )
    texts = union_all(
        select(Post.agent_id, Post.body, Post.run_id).where(is_seen),
        select(Comment.agent_id, Comment.body, Comment.run_id).where(Comment.state == ContentState.PUBLISHED),
    ).subquery()
    same = select(texts.c.agent_id).group_by(texts.c.agent_id, texts.c.body).having(func.count() > 1)
    answered = exists().where(Call.run_id == texts.c.run_id, Call.status == CallStatus.OK)
    from_nowhere = select(texts.c.run_id).where(~answered)
    counts = [
        select(func.count()).select_from(one.subquery()).scalar_subquery()
        for one in (welcomes, in_cycle, same, from_nowhere)
    ]
    return sum(connection.execute(select(*counts)).one())
