"""Stops: what holds calls back now, with what ends it. One list for `status`, `up`, `doctor`, `explain`,
every page and the scheduler.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine

from app import kinds
from app.admission.circuit import StoreAway
from app.admission.controller import Admission
from app.admission.state import FleetBudget, State
from app.audit_log import Change, last_change
from app.clock import utcnow
from app.controls import read_controls
from app.models import OverBudget
from app.money import dollars
from app.runs.asked import Asked, asked_by
from app.runs.workers import asked_now
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


@dataclass(frozen=True, slots=True)
class Look:
    """The fleet's admission as it stands, None when Redis does not answer; whom its workers ask; and what
    happens when a budget is used up.
    """

    state: State | None
    asked: Asked
    policy: OverBudget = OverBudget.STOP

    @property
    def stop_reason(self) -> str | None:
        """The kind of answer that stops all calls, if one does."""
        return self.state.stop_reason if self.state else None

    @property
    def allowed_rate(self) -> float:
        """Calls per second that may be made now."""
        if self.state is None or self.state.is_held:
            return 0.0
        is_over = any(budget.is_used_up for budget in self.state.budgets)
        return 0.0 if is_over and self.policy is OverBudget.STOP else self.state.effective_rate


def look(admission: Admission, settings: Settings, engine: Engine) -> Look:
    """Look at the fleet from anywhere: what its workers say counts, not this process's settings."""
    now = utcnow()
    try:
        told = asked_now(admission.redis, settings, admission.key, now)
        state = admission.state([one.key for one in told])
    except (StoreAway, RedisError):
        return Look(None, asked_by(settings, admission.key, now))
    policy = OverBudget.STOP
    if any(budget.limit for budget in state.budgets):
        with engine.connect() as connection:
            policy = OverBudget(read_controls(connection, settings.controls).over_budget)
    return Look(state, told[0], policy)


def find_stops(seen: Look) -> list[Stop]:
    """Everything that holds calls back, the cause before its consequences. Pure."""
    state, asked = seen.state, seen.asked
    if state is None:
        return [
            Stop(
                Standing.DEGRADED,
                "redis",
                "Redis does not answer, so calls wait",
                "Start Redis; `paceline doctor` says what is wrong.",
            )
        ]
    found = []
    if state.stop_reason is not None:
        found.append(_stopped(state, asked))
    if state.paused_until:
        found.append(
            Stop(
                Standing.PAUSED,
                "paused",
                f"The fleet is paused {state.pause_said}",
                "`paceline resume` ends it.",
                "resume",
            )
        )
    found += [_over(budget, seen.policy) for budget in state.budgets if budget.is_used_up]
    if state.rate_limited_until:
        until = f"{state.rate_limited_until:%H:%M:%S} UTC"
        says = f"The gateway answered 429, so all calls wait until {until}"
        about = kinds.RATE_LIMITED.code
        found.append(Stop(Standing.THROTTLED, about, says, "`paceline resume` ends the wait.", "resume"))
    has_budget = any(budget.limit for budget in state.budgets)
    return [
        *found,
        *(_without_price(asked, seen.policy) if has_budget else []),
        *_gone(state, asked),
        *_too_small(state, asked),
    ]


def _over(budget: FleetBudget, policy: OverBudget) -> Stop:
    goes_on = {
        OverBudget.STOP: "no call is made",
        OverBudget.POSTS_ONLY: "agents go on with posts only, which is paid beyond it",
        OverBudget.CHEAPER_MODEL: "the cheaper model is asked, which is paid beyond it",
    }
    says = (
        f"The fleet's budget of the {budget.period} is used up "
        f"({dollars(budget.used)} of {dollars(budget.limit)}): {goes_on[policy]}"
    )
    mend = f"`paceline budget set --{budget.period} DOLLARS` raises it."
    return Stop(Standing.OVER_BUDGET, f"budget_{budget.period}", says, mend, "budget")


def _without_price(asked: Asked, policy: OverBudget) -> list[Stop]:
    """Models that are asked first and that no budget can hold."""
    unpriced = [model for model in asked.models if model in asked.unpriced]
    if not unpriced or asked.price_problem is None:
        return []
    are_all = len(unpriced) == len(asked.models) and not asked.is_free
    stops_all = are_all and policy is OverBudget.STOP
    says = f"A budget is set and {asked.price_problem}"
    mend = "Or take the budget away: `paceline budget set --day 0`."
    return [Stop(Standing.STOPPED if stops_all else Standing.DEGRADED, "no_price", says, mend)]


def _gone(state: State, asked: Asked) -> list[Stop]:
    """Models that the gateway no longer has, and what is asked in their place."""
    found = []
    for model, until in state.gone:
        other = asked.fallback_of(model)
        instead = f"{other} is asked in its place" if other else "nothing is asked in its place"
        says = f"The gateway no longer has {model}, so {instead} until {until:%H:%M:%S} UTC"
        mend = "Set another model: PACELINE_GATEWAY__POST_MODEL and its like."
        found.append(Stop(Standing.DEGRADED, kinds.MODEL_GONE.code, says, mend, "resume"))
    return found


def _too_small(state: State, asked: Asked) -> list[Stop]:
    """Limits of LLM tokens that are smaller than what a single call reserves."""
    found, least = [], asked.call_tokens
    if 0 < state.agent_daily_tokens < least:
        says = (
            f"An agent may use {state.agent_daily_tokens:,} LLM tokens a day and a call reserves at least "
            f"{least:,}, so agents without a quota of their own make no call"
        )
        mend = "`paceline limits set --agent-daily-tokens` raises it; 0 is no limit."
        found.append(Stop(Standing.DEGRADED, "quota", says, mend))
    if 0 < state.tokens_per_minute < least:
        minutes = least / state.tokens_per_minute
        says = (
            f"The fleet may use {state.tokens_per_minute:,} LLM tokens a minute and a call reserves at least "
            f"{least:,}, so one call goes in about {minutes:,.0f} minutes"
        )
        mend = "`paceline limits set --tokens-per-minute` raises it; 0 is no limit."
        found.append(Stop(Standing.DEGRADED, "tokens_per_minute", says, mend))
    return found


def _stopped(state: State, asked: Asked) -> Stop:
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
        mend = f"Set the right {asked.key_name}. Calls resume when a probe is answered."
        if asked.withheld:
            mend = f"{asked.withheld}: set PACELINE_GATEWAY__API_KEY."
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
    return [replace(stop, says=stop.says + whose) if stop.about == "paused" else stop for stop in stops]
