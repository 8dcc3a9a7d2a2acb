"""Schedules that keep to the clock: every 30 seconds means at :00 and :30, whenever beat started."""

from datetime import datetime

from celery.schedules import BaseSchedule, schedstate

CLOCK_SLACK_S = 1.0
"""Celery notes a run a moment after it asked whether it is due."""


class OnTheClock(BaseSchedule):
    """Due at every whole multiple of `seconds` since the epoch.

    Celery's own intervals count from the start of beat, so slices would open at any offset, and a
    little drift would open one twice and miss the next.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a multiple lies between the last run and now, and when the next one comes. A last run in
        the future means that the clock went back: due now.
        """
        now = self.now().timestamp()
        latest = now // self.seconds * self.seconds
        last = last_run_at.timestamp()
        return schedstate(last < latest or last > now + CLOCK_SLACK_S, latest + self.seconds - now)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OnTheClock) and other.seconds == self.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __repr__(self) -> str:
        return f"<every {self.seconds:g} s on the clock>"
