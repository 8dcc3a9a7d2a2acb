"""How much the scheduler may start now: the cap, less what admission says stands against it.

A 402 stops the scheduler, not only the calls: no run is made that could not call. When the breaker is
due for a probe, one run is made, which is the probe.
"""

from dataclasses import dataclass

from app.admission.state import State
from app.agents.activities import expected_calls
from app.runs.cycles import runs_per_slice
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Allowance:
    """Runs for one slice; `stopped` says why there are none or only one."""

    runs: int
    stopped: str | None = None


def allowance(state: State, settings: Settings) -> Allowance:
    """What the state of admission allows."""
    if state.key_refused:
        return Allowance(0, f"key_refused: set the right {settings.gateway_key_name}")
    if state.paused_until is not None:
        return Allowance(0, f"paused until {state.paused_until:%Y-%m-%d %H:%M:%S} UTC")
    if state.breaker == "open":
        return Allowance(0, f"credits exhausted, next probe {state.breaker_until:%H:%M:%S} UTC")
    if state.breaker == "half_open":
        return Allowance(1, "credits exhausted, probing")
    calls_per_run = expected_calls(settings.activity, settings.cycle.period_s)
    return Allowance(runs_per_slice(state.effective_rate, settings.cycle, calls_per_run))
