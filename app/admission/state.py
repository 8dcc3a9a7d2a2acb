"""Admission as it stands, for whoever asks: pages, the command line, metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.clock import utcnow

LONG = timedelta(days=365)
"""A pause that lasts longer has no end: it is stored as one of fifty years."""


@dataclass(frozen=True, slots=True)
class State:
    """Admission as it stands."""

    version: int
    rate: float
    effective_rate: float
    paused_until: datetime | None
    throttled_until: datetime | None
    breaker: str
    breaker_until: datetime | None
    key_refused: bool
    reserved: int
    day_micros: int
    day_reserved_micros: int

    @property
    def pause_said(self) -> str:
        """How long the pause lasts, in words."""
        assert self.paused_until is not None
        if self.paused_until - utcnow() > LONG:
            return "until somebody resumes it"
        return f"until {self.paused_until:%Y-%m-%d %H:%M:%S} UTC"

    def stopped_by(self, key_name: str) -> tuple[str, str] | None:
        """What holds every call back just now, and its mend; None when nothing does."""
        if self.key_refused:
            return "the gateway refused the key", f"set the right {key_name}"
        if self.paused_until:
            return f"the fleet is paused {self.pause_said}", "`paceline resume` ends it"
        if self.breaker != "closed" and self.breaker_until:
            probe = f"next probe {self.breaker_until:%H:%M:%S} UTC"
            return (
                f"the gateway's credits are used up, {probe}",
                "add credits, then `paceline resume`",
            )
        return None
