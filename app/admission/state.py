"""Admission as it stands, for whoever asks: pages, the command line, metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis import Redis

from app.budget_rule import is_used_up
from app.clock import utcnow

LONG = timedelta(days=365)
"""A pause that lasts longer has no end: it is stored as one of fifty years."""


@dataclass(frozen=True, slots=True)
class FleetBudget:
    """A budget of the fleet in micro-dollars, as admission counts it. A limit of 0 is none; `held` is
    reserved by calls under way.
    """

    period: str
    limit: int
    used: int
    held: int

    @property
    def is_used_up(self) -> bool:
        """Whether it refuses calls."""
        return is_used_up(self.used, self.limit)


@dataclass(frozen=True, slots=True)
class State:
    """Admission as it stands.

    `stop_reason` is the kind of answer that stops all calls (app.kinds), None when none does. Then
    `probe_at` is when the next single call may look whether the cause is gone, and `resets_at` when a limit
    by the calendar begins anew, where that is known. `gone` are the models that the gateway no longer has,
    with when they are asked again.
    """

    version: int
    rate: float
    effective_rate: float
    paused_until: datetime | None
    rate_limited_until: datetime | None
    stop_reason: str | None
    probe_at: datetime | None
    resets_at: datetime | None
    is_probe_due: bool
    reserved: int
    budgets: tuple[FleetBudget, ...]
    tokens_per_minute: int
    agent_daily_tokens: int
    gone: tuple[tuple[str, datetime], ...]

    @property
    def is_held(self) -> bool:
        """Whether a pause, a 429 or a stop holds every call back."""
        waits = self.paused_until or self.rate_limited_until
        return waits is not None or self.stop_reason is not None

    @property
    def breaker(self) -> str:
        """`closed`, `open`, or `half_open` when a probe is due."""
        if self.stop_reason is None:
            return "closed"
        return "half_open" if self.is_probe_due else "open"

    @property
    def pause_said(self) -> str:
        """How long the pause lasts, in words."""
        assert self.paused_until is not None
        if self.paused_until - utcnow() > LONG:
            return "until somebody resumes it"
        return f"until {self.paused_until:%Y-%m-%d %H:%M:%S} UTC"


EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
"""Redis counts microseconds from here (app/admission/lua/_shared.lua)."""


def read_state(
    redis: Redis, fleet: Sequence[str], window: Sequence[str], keys: Sequence[str], now: datetime
) -> State | None:
    """Read admission as it stands for calls with these gateway keys; None when Redis has no limits yet.
    `fleet` and `window` are the keys of app.admission.scripts.
    """
    fields = _read_hash(redis, fleet[0])
    if "version" not in fields:
        return None
    number = {name: int(value) for name, value in fields.items() if _is_integer(value)}

    def moment(name: str) -> datetime | None:
        us = number.get(name, 0)
        at = EPOCH + timedelta(microseconds=us) if us else None
        return at if at and at > now else None

    whose = fields.get("stopkey", "")
    is_stopped = number.get("open", 0) > 0 and (not whose or whose[1:] in keys)
    probe_at = EPOCH + timedelta(microseconds=number["open"]) if is_stopped else None
    day, month = (_read_hash(redis, key) for key in window[1:])
    return State(
        version=number.get("version", 0),
        rate=number.get("rate", 0) / 1000,
        effective_rate=_effective_rate(number, now) / 1000,
        paused_until=moment("paused"),
        rate_limited_until=moment("pend"),
        stop_reason=fields.get("why", "") if is_stopped else None,
        probe_at=probe_at,
        resets_at=moment("resets") if is_stopped else None,
        is_probe_due=probe_at is not None and probe_at <= now,
        reserved=int(redis.hlen(fleet[1])),
        budgets=(
            FleetBudget("day", number.get("day_budget", 0), *_used_and_held(day)),
            FleetBudget("month", number.get("month_budget", 0), *_used_and_held(month)),
        ),
        tokens_per_minute=number.get("tpm", 0),
        agent_daily_tokens=number.get("quota", 0),
        gone=tuple(
            (name.removeprefix("gone:"), at)
            for name in sorted(fields)
            if name.startswith("gone:") and (at := moment(name))
        ),
    )


def _used_and_held(money: dict[str, str]) -> tuple[int, int]:
    return int(money.get("u", 0)), int(money.get("h", 0))


def _effective_rate(number: dict[str, int], now: datetime) -> int:
    full = number.get("rate", 0)
    if "rate0" not in number:
        return full
    us = (now - EPOCH) // timedelta(microseconds=1) + number.get("off", 0)
    since = max(0, us - number.get("pend", 0))
    return min(full, number["rate0"] + full * since // 30_000_000)


def _read_hash(redis: Redis, key: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in redis.hgetall(key).items()}


def _is_integer(value: str) -> bool:
    return value.lstrip("-").isdigit()
