"""What is left when the storm is over: everything that was lost, doubled, unrecorded or over the cap."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from app.clock import monotonic
from app.gateway.sandbox.state import StrictLimit
from app.gateway.tally import SandboxTally
from app.models import Call, Run, RunState
from app.runs.books import audit
from app.runs.states import OPEN
from app.usage import calls
from tests.chaos.fleet import CAPACITY, QUOTA, RATE, Fleet

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
            query = select(Run.id, Run.attempt).where(
                Run.state == RunState.RUNNING, Run.worker.in_(names)
            )
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
    runs: int
    calls: int
    lost: int
    doubled: int
    unrecorded: int
    violations: int
    books_differ: int
    over_quota: int
    """Agents that used more than their quota, by the gateway's count."""
    over_quota_as_reserved: int
    """The same with calls of unknown outcome counted as reserved."""
    gets: int
    """Runs that a shell asked for by `delay` and waited for by `get`, all the time."""
    gets_untrue: int
    """Those of which `get` did not say what the row says, or never came back."""
    calls_unknown: int
    paid_twice: int
    """Calls repeated because a worker went silent after its call: recorded, stored once."""
    recoveries: int
    slowest_recovery_s: float
    states: dict[str, int]
    differences: dict[str, int]

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing twice, everything recorded, the cap held."""
        return not (
            self.lost
            or self.doubled
            or self.unrecorded
            or self.violations
            or self.books_differ
            or self.over_quota
            or self.gets_untrue
        )

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self) | {"good": self.is_good}


def judge(fleet: Fleet, faults: int, recovery: Recovery) -> Verdict:
    """Look at the database, the gateway's record and Redis, when everything is quiet."""
    tally = SandboxTally(fleet.gateway)
    try:
        books = audit(fleet.services, tally)
    finally:
        tally.close()
    with fleet.engine.connect() as connection:
        rows = connection.execute(select(Run.state, func.count()).group_by(Run.state))
        states: dict[str, int] = {row[0]: row[1] for row in rows}
        unknown = connection.execute(
            select(func.count()).where(Call.status == "unknown")
        ).scalar_one()
        reserved = calls.tokens_by_agent(connection, EPOCH)
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
        runs=sum(states.values()),
        calls=len(arrivals),
        lost=sum(states.get(state, 0) for state in OPEN),
        doubled=found["effects_doubled"],
        paid_twice=books.uncertain.get("steps_paid_twice", 0),
        unrecorded=found["unrecorded"],
        violations=violations(arrivals),
        books_differ=books.total,
        over_quota=sum(tokens > QUOTA for tokens in used.values()),
        over_quota_as_reserved=sum(tokens > QUOTA for tokens in reserved.values()),
        gets=gets,
        gets_untrue=gets_untrue,
        calls_unknown=unknown,
        recoveries=recovery.count,
        slowest_recovery_s=round(recovery.slowest_s, 1),
        states=states,
        differences=found,
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


def violations(arrivals_us: list[int]) -> int:
    """Calls that a gateway with this rate and capacity would have refused, by its own clock."""
    limit = StrictLimit()
    return sum(not limit.allows(at * 1000, RATE, CAPACITY) for at in arrivals_us)
