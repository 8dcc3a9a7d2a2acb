"""How much the scheduler may start now: the cap, less what admission says stands against it.

A 402 or a refused key stops the scheduler, not only the calls: no run is made that could not call. When a
probe is due, one run is made, which is the probe.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.admission.state import State
from app.agents.activities import expected_calls
from app.runs.asked import asked_by
from app.runs.cycles import runs_per_slice
from app.runs.stops import Look, Standing, find_stops
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Allowance:
    """Runs for one slice; `stopped` says why there are none or only one."""

    runs: int
    stopped: str | None = None


def allowance(state: State, settings: Settings, now: datetime) -> Allowance:
    """Return what the state of admission allows. Pure."""
    for stop in find_stops(Look(state, asked_by(settings, "", now))):
        is_of_gateway = stop.about == state.stop_reason
        if is_of_gateway and state.is_probe_due and not state.paused_until:
            return Allowance(1, f"{stop.about}: probing")
        # Other limits may spare some agents: a quota or a policy of their own.
        if is_of_gateway or stop.standing is Standing.PAUSED:
            return Allowance(0, f"{stop.about}: {stop.says}")
    slice_end = now + timedelta(seconds=settings.cycle.slice_length_s)
    if state.rate_limited_until and state.rate_limited_until > slice_end:
        return Allowance(0, f"rate_limited until {state.rate_limited_until:%H:%M:%S} UTC")
    calls_per_run = expected_calls(settings.activity, settings.cycle.period_s)
    return Allowance(runs_per_slice(state.effective_rate, settings.cycle, calls_per_run))
