"""Counters and rules of the sandbox. One event loop owns it, so nothing here locks."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

INPUT_PRICE, OUTPUT_PRICE = 0.30e-6, 2.50e-6
"""Dollars per token, for its credits."""


@dataclass
class Rules:
    """Rules that it enforces; all of it can be changed while it runs (PUT /sandbox/rules)."""

    rate: float = 4.0
    capacity: int = 2
    latency_s: float = 0.0
    credits: float | None = None
    retry_after_s: float | None = None
    key: str | None = None
    unlimited: bool = False


@dataclass
class Fault:
    """A scripted fault for the next `count` calls (POST /sandbox/faults).

    kind: status (answers `status` with `body`, and counts it as `tokens`: input, output), hang (silent for
    `seconds`), garbage (200, not JSON), half (stops in mid-body), empty (200, no content), trickle (a byte
    a second).
    """

    kind: str
    count: int = 1
    status: int = 500
    body: str = '{"error":{"message":"scripted fault"}}'
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 3600.0
    tokens: tuple[int, int] = (0, 0)
    model: str | None = None
    face: str = "gateway"
    """Who misbehaves: gateway, twitterapi or x; hang and half work for all, model for the gateway only."""
    for_s: float | None = None
    """Seconds after which it is over, whatever its count."""
    added_at: float = field(default_factory=time.monotonic)

    KINDS = ("status", "hang", "garbage", "half", "empty", "trickle")

    @classmethod
    def from_json(cls, data: Any) -> "Fault":
        """Read a fault; raises ValueError that says what is wrong."""
        if not isinstance(data, dict) or data.get("kind") not in cls.KINDS:
            raise ValueError(f"a fault needs a kind out of {', '.join(cls.KINDS)}")
        unknown = set(data) - {f.name for f in fields(cls)} | {"added_at"} & set(data)
        if unknown:
            raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
        if data.get("face", "gateway") not in ("gateway", "twitterapi", "x"):
            raise ValueError("face is gateway, twitterapi or x")
        return cls(**data)

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return self.for_s is not None and time.monotonic() > self.added_at + self.for_s


@dataclass
class World:
    """Data that the sandbox has as twitterapi.io and as X (PUT /sandbox/world changes it)."""

    credits: int = 100_000
    tweets: dict[str, list[str]] = field(default_factory=dict)
    """A user's posts; a user that is not named has made-up ones."""
    missing: list[str] = field(default_factory=list)
    mentions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By account: objects with id, author, text and created_at (ISO), in any order."""
    requests: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the sandbox saw it; `at_us` is its own monotonic clock."""

    request_id: str
    at_us: int
    status: int
    model: str
    tokens_input: int
    tokens_output: int


class StrictLimit:
    """A bucket of `capacity` calls that refills at `rate` per second; no borrowing, no waiting.

    Kept as the time at which the bucket would be full again, in integer nanoseconds.
    """

    def __init__(self) -> None:
        self._full_at_ns = 0

    def allows(self, now_ns: int, rate: float, capacity: int) -> bool:
        """Take one call if there is one."""
        step_ns = int(1e9 / rate)
        full_at = max(self._full_at_ns, now_ns)
        if full_at + step_ns - now_ns > capacity * step_ns:
            return False
        self._full_at_ns = full_at + step_ns
        return True


class Sandbox:
    """All of the sandbox's state."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.limit = StrictLimit()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.spent = 0.0
        self.in_flight = 0
        self.world = World()
        self.bodies: deque[dict[str, Any]] = deque(maxlen=20)
        """The newest requests as they came."""
        self.started_at = datetime.now(UTC)  # noqa: TID251 (it judges, so it has a clock of its own)

    def next_fault(self, model: str, face: str = "gateway") -> Fault | None:
        """Use up one call of the first scripted fault that applies."""
        self.faults[:] = [fault for fault in self.faults if not fault.is_over]
        for fault in self.faults:
            if fault.face == face and fault.model in (None, model):
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def is_broke(self) -> bool:
        """Whether the credits are used up."""
        return self.rules.credits is not None and self.spent >= self.rules.credits

    def record(self, request_id: str, at_ns: int, status: int, model: str, used: tuple[int, int]) -> None:
        """Count a request, whatever came of it."""
        self.spent += used[0] * INPUT_PRICE + used[1] * OUTPUT_PRICE
        self.seen.append(Seen(request_id, at_ns // 1000, status, model, *used))

    def tally(self) -> dict[str, Any]:
        """Sums over everything seen."""
        ids = Counter(seen.request_id for seen in self.seen)
        return {
            "started_at": self.started_at.isoformat(),
            "requests": len(self.seen),
            "by_status": dict(Counter(str(seen.status) for seen in self.seen)),
            "tokens_input": sum(seen.tokens_input for seen in self.seen),
            "tokens_output": sum(seen.tokens_output for seen in self.seen),
            "repeated_request_ids": sum(count - 1 for count in ids.values()),
            "in_flight": self.in_flight,
            "spent": self.spent,
            "rules": asdict(self.rules) | {"key": self.rules.key is not None},
        }

    def lines(self, after: int) -> Iterator[dict[str, Any]]:
        """Requests seen, from number `after` on."""
        for seen in self.seen[after:]:
            yield asdict(seen)


def now_ns() -> int:
    """The sandbox's own clock."""
    return time.monotonic_ns()
