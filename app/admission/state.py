"""Admission as it stands, for whoever asks: pages, the command line, metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.budget_rule import is_used_up
from app.clock import utcnow

LONG = timedelta(days=365)
"""A pause that lasts longer has no end: it is stored as one of fifty years."""


@dataclass(frozen=True, slots=True)
class FleetBudget:
    """A budget of the fleet in micro-dollars, as admission counts it; a limit of 0 is none."""

    period: str
    limit: int
    used: int
    held: int

    @property
    def is_used_up(self) -> bool:
        """Whether it refuses calls."""
        return is_used_up(self.used + self.held, self.limit)


@dataclass(frozen=True, slots=True)
class State:
    """Admission as it stands.

    `stop_reason` is the kind of answer that stops all calls (app.kinds), None when none does. Then
    `probe_at` is when the next single call may look whether the cause is gone, and `resets_at` when a limit
    by the calendar begins anew, where that is known.
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
