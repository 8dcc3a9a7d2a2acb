"""What holds calls back now, with what ends it. One list for `status`, `up`, `doctor`, `explain`, every page
and the scheduler.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from redis.exceptions import RedisError
from sqlalchemy import Connection

from app import kinds
from app.admission.circuit import StoreAway
from app.admission.controller import Admission
from app.admission.state import State
from app.audit_log import Change, last_change
from app.clock import utcnow
from app.runs.budgets import price_problem
from app.settings import Settings


class Standing(StrEnum):
    """How the fleet stands, in one word."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    OVER_BUDGET = "over_budget"
    THROTTLED = "throttled"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Stop:
    """One thing that holds calls back. `about` is the kind of answer or the limit that does, `says` a
    sentence, `mend` what to do; `act` is the name of the action that ends it, empty when none does.
    """

    standing: Standing
    about: str
    says: str
    mend: str
    act: str = ""

    def __str__(self) -> str:
        return f"{self.says}. {self.mend}"


ORDER = tuple(standing for standing in Standing if standing is not Standing.RUNNING)


def standing(stops: list[Stop]) -> Standing:
    """How the fleet stands: by what holds most back."""
    found = {stop.standing for stop in stops}
    return next((one for one in (Standing.STOPPED, *ORDER) if one in found), Standing.RUNNING)


def read_state(admission: Admission) -> State | None:
    """Admission as it stands; None when Redis does not answer."""
    try:
        return admission.state()
    except (StoreAway, RedisError):
        return None


def find_stops(state: State | None, settings: Settings) -> list[Stop]:
    """Everything that holds calls back, the cause before its consequences. Pure."""
    if state is None:
        return [Stop(Standing.DEGRADED, "redis", "Redis does not answer, so calls wait",
                     "Start Redis; `paceline doctor` says what is wrong.")]  # fmt: skip
    found = []
    if state.stop_reason is not None:
        found.append(_stopped(state, settings))
    if state.paused_until:
        found.append(Stop(Standing.PAUSED, "paused", f"The fleet is paused {state.pause_said}",
                          "`paceline resume` ends it.", "resume"))  # fmt: skip
    for budget in state.budgets:
        if budget.is_used_up:
            says = (
                f"The fleet's budget of the {budget.period} is used up "
                f"(${(budget.used + budget.held) / 1e6:,.4f} of ${budget.limit / 1e6:,.4f})"
            )
            mend = f"`paceline budget set --{budget.period} DOLLARS` raises it."
            about = f"budget_{budget.period}"
            found.append(Stop(Standing.OVER_BUDGET, about, says, mend, "budget"))
    if any(budget.limit for budget in state.budgets) and (
        problem := price_problem(settings, utcnow())
    ):
        says = "A budget is set for models without a price"
        found.append(Stop(Standing.DEGRADED, "no_price", says, problem[0].upper() + problem[1:]))
    if state.rate_limited_until:
        until = f"{state.rate_limited_until:%H:%M:%S} UTC"
        says = f"The gateway answered 429, so all calls wait until {until}"
        about = kinds.RATE_LIMITED.code
        found.append(
            Stop(Standing.THROTTLED, about, says, "`paceline resume` ends the wait.", "resume")
        )
    return found


def _stopped(state: State, settings: Settings) -> Stop:
    kind = kinds.BY_CODE.get(state.stop_reason or "", kinds.CREDITS_EXHAUSTED)
    says = kind.title[0].upper() + kind.title[1:]
    if state.probe_at:
        says += (
            "; the next call looks whether it is over"
            if state.is_probe_due
            else f"; the next probe goes at {state.probe_at:%H:%M:%S} UTC"
        )
    if state.resets_at:
        says += f"; the limit begins anew at {state.resets_at:%Y-%m-%d %H:%M:%S} UTC"
    mend = kind.mend
    if kind is kinds.KEY_REFUSED:
        mend = f"Set the right {settings.gateway_key_name}. Calls resume when a probe is answered."
        if settings.withheld_key:
            mend = f"{settings.withheld_key}: set PACELINE_GATEWAY__API_KEY."
    return Stop(Standing.STOPPED, kind.code, says, mend, "resume")


def name_who_paused(connection: Connection, stops: list[Stop]) -> list[Stop]:
    """The same with who paused the fleet, and why."""
    if not any(stop.about == "paused" for stop in stops):
        return stops
    return with_who_paused(stops, last_change(connection, "limits.set", "paused_until"))


def with_who_paused(stops: list[Stop], change: Change | None) -> list[Stop]:
    """The same with the change that paused the fleet."""
    if change is None:
        return stops
    whose = f", by {change.actor}" + (f": {change.reason}" if change.reason else "")
    return [
        replace(stop, says=stop.says + whose) if stop.about == "paused" else stop for stop in stops
    ]
