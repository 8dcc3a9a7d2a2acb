"""Actions on the whole fleet: pause and resume, limits, budgets, controls."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, func, select

from app import controls
from app.actions.action import SHOWN, Action, Desk, Given, Who
from app.actions.inputs import Handle, Input, Versioned
from app.admission.circuit import StoreAway
from app.admission.limits import Limits, change_limits, read_limits
from app.alerts import incidents
from app.bounds import Burst, Count, Dollars, MaxWait, Minutes, Rate, Seconds
from app.clock import utcnow
from app.community.budgets import set_budget
from app.controls import Controls
from app.errors import ConfigError, NotFound, NotYet
from app.models import Agent, AgentState, Community, Links, OverBudget, Review, Role, Run
from app.money import short_dollars, to_micros
from app.runs import leases
from app.runs.states import OPEN
from app.runs.stops import look

Activity = Literal["style", "welcome", "post", "comment", "cross_visit", "reaction"]
FOR_EVER = timedelta(days=365 * 50)


class Pause(Input):
    """Stop all gateway calls and all new runs; calls under way finish."""

    minutes: Minutes | None = Field(
        None, title="minutes", description="empty: until that moment, or until somebody resumes"
    )
    until: datetime | None = Field(
        None, title="or until", description="2026-12-24 18:00, of the business time zone unless it names one"
    )


class Resume(Input):
    """End a pause, a stop by the gateway (credits, key, quota) and the wait after a 429."""


class SetLimits(Versioned):
    """Change limits. Every worker's next call sees them, without a restart."""

    rate: Rate | None = Field(None, title="calls per second")
    burst: Burst | None = Field(None, title="calls that may start at once after a pause")
    max_wait_s: MaxWait | None = Field(None, title="seconds a run waits on a worker")
    tokens_per_minute: Count | None = Field(None, title="LLM tokens per minute", description="0: no limit")
    agent_daily_tokens: Count | None = Field(
        None, title="LLM tokens per agent and day", description="0: no limit"
    )


class SetBudget(Input):
    """Set budgets. Every worker's next call sees them."""

    community: str | None = Field(
        None, max_length=200, title="of the community", description="empty: of the whole fleet"
    )
    day_usd: Dollars | None = Field(None, title="dollars per day", description="0: no limit")
    month_usd: Dollars | None = Field(None, title="dollars per month", description="0: no limit")

    @property
    def in_micros(self) -> dict[str, int]:
        """The budgets that were given, as columns in micro-dollars."""
        given = {"budget_day_micros": self.day_usd, "budget_month_micros": self.month_usd}
        return {name: to_micros(usd) for name, usd in given.items() if usd is not None}


class SetControls(Versioned):
    """Change what agents may do and publish, from the next run of each on, without a restart."""

    dry_run: bool | None = Field(None, title="dry run", description="write and record, but publish nothing")
    review: Review | None = Field(None, title="what waits for approval")
    paused_activities: list[Activity] | None = Field(None, title="what no agent does for now")
    posts_per_hour: Count | None = Field(None, title="posts of an agent per hour", description="0: no cap")
    posts_per_day: Count | None = Field(None, title="posts of an agent per day", description="0: no cap")
    comments_per_hour: Count | None = Field(
        None, title="comments of an agent per hour", description="0: no cap"
    )
    comments_per_day: Count | None = Field(
        None, title="comments of an agent per day", description="0: no cap"
    )
    banned_words: Annotated[list[Handle], Field(max_length=1_000)] | None = Field(
        None, title="banned words", description="one per line"
    )
    links: Links | None = Field(None, title="what becomes of links")
    duplicates_s: Seconds | None = Field(
        None, title="seconds in which a text may not be said again", description="0: it may"
    )
    over_budget: OverBudget | None = Field(None, title="when a budget is used up")


# Doing


def set_limits(
    desk: Desk, changes: dict[str, Any], who: Who, *, close_breaker: bool = False, version: int | None = None
) -> Limits:
    """Change the fleet's limits and copy them to where every call sees them; raises NotYet when Redis is
    away, and ConfigError when they are no longer of the `version` that was looked at.
    """
    _refuse_budget_without_prices(desk, changes)
    with desk.engine.begin() as connection:
        limits = change_limits(
            connection, desk.settings.limits, changes, actor=who.name, reason=who.reason, version=version
        )
        leases.wake_all(connection)  # what they wait for may have changed
        if close_breaker:
            incidents.end_all(connection)
    try:
        desk.admission.put_in_force(limits, close_breaker=close_breaker)
    except StoreAway:
        raise NotYet(
            "the change is stored and will be in force when Redis answers again: start Redis"
        ) from None
    return limits


def _refuse_budget_without_prices(desk: Desk, changes: dict[str, Any]) -> None:
    """A budget that cannot hold is not set: raises ConfigError that names the setting."""
    sets_one = any(value for name, value in changes.items() if name.startswith("budget_"))
    if not sets_one:
        return
    asked = look(desk.admission, desk.settings, desk.engine).asked
    if asked.price_problem and not asked.is_free:
        raise ConfigError(f"the budget was not set: {asked.price_problem}")


def pause(desk: Desk, ask: Pause, who: Who) -> None:
    """For so long, until that moment, or until somebody resumes. Raises ConfigError when both are given, or
    the moment is over.
    """
    until = ask.until
    if until is None:
        until = utcnow() + (FOR_EVER if ask.minutes is None else timedelta(minutes=ask.minutes))
    elif ask.minutes is not None:
        raise ConfigError("minutes or a moment, not both")
    elif until.tzinfo is None:
        until = until.replace(tzinfo=desk.settings.zone)
    if until <= utcnow():
        raise ConfigError(f"{until.isoformat()} is over: give a moment to come, or none")
    set_limits(desk, {"paused_until": until.replace(microsecond=0)}, who)


def resume(desk: Desk, _: Resume, who: Who) -> None:
    """End what holds calls back."""
    set_limits(desk, {"paused_until": None}, who, close_breaker=True)


def set_budgets(desk: Desk, ask: SetBudget, who: Who) -> None:
    """Budgets of a community or of the fleet; raises NotFound."""
    changes = ask.in_micros
    if not changes:
        raise ConfigError("nothing to change: give dollars per day or per month")
    if ask.community is None:
        set_limits(desk, changes, who)
        return
    _refuse_budget_without_prices(desk, changes)
    with desk.engine.begin() as connection:
        leases.wake_all(connection)
        if not set_budget(connection, ask.community, changes, actor=who.name, reason=who.reason):
            raise NotFound(f"no community {ask.community!r}: `paceline usage --by community` shows them")


def set_controls(desk: Desk, ask: SetControls, who: Who) -> Controls:
    """Change what agents may do and publish; raises ConfigError when there is nothing to change."""
    if not ask.changes:
        raise ConfigError("nothing to change")
    with desk.engine.begin() as connection:
        return controls.change_controls(
            connection,
            desk.settings.controls,
            ask.changes,
            actor=who.name,
            reason=who.reason,
            version=ask.version,
        )


def _set_limits(desk: Desk, ask: SetLimits, who: Who) -> None:
    if not ask.changes:
        raise ConfigError("nothing to change")
    set_limits(desk, ask.changes, who, version=ask.version)


def _set_controls(desk: Desk, ask: SetControls, who: Who) -> None:
    set_controls(desk, ask, who)


# Asking


def _affects_fleet(_: Desk, connection: Connection, __: Given) -> str:
    """Active agents and open runs."""
    agents = select(func.count()).where(Agent.state == AgentState.ACTIVE).scalar_subquery()
    runs = select(func.count()).select_from(Run).where(Run.state.in_(OPEN)).scalar_subquery()
    found = connection.execute(select(agents, runs)).one()
    return f"{found[0]:,} active agents, and {found[1]:,} runs that are open now."


def _affects_budget(desk: Desk, connection: Connection, _: Given) -> str:
    limits = read_limits(connection, desk.settings.limits)
    names = list(connection.execute(select(Community.name).order_by(Community.name).limit(SHOWN)).scalars())
    return (
        f"the fleet, whose budgets are {_limit(limits.budget_day_micros)} per day and "
        f"{_limit(limits.budget_month_micros)} per month; or one community: {', '.join(names)}."
    )


def _limit(micros: int) -> str:
    return short_dollars(micros) if micros else "no limit"


def _limits_now(desk: Desk, connection: Connection) -> dict[str, Any]:
    return _now(read_limits(connection, desk.settings.limits), SetLimits)


def _controls_now(desk: Desk, connection: Connection) -> dict[str, Any]:
    return _now(controls.read_controls(connection, desk.settings.controls), SetControls)


def _now(found: object, ask: type[Input]) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ask.model_fields if name != "reason"}


def _role_for_controls(_: Desk, ask: SetControls) -> Role:
    """The rule for a budget that is used up is a question of money, as the budget is."""
    return Role.OPERATOR if ask.over_budget is None else Role.ADMIN


ACTIONS = (
    Action(
        "pause",
        "Pause the fleet",
        Role.OPERATOR,
        Pause,
        _affects_fleet,
        pause,
        back="/",
        command="paceline pause --for MINUTES --until MOMENT --reason WHY",
    ),
    Action(
        "resume",
        "Resume the fleet",
        Role.OPERATOR,
        Resume,
        _affects_fleet,
        resume,
        back="/",
        command="paceline resume --reason WHY",
    ),
    Action(
        "limits",
        "Change limits",
        Role.ADMIN,
        SetLimits,
        _affects_fleet,
        _set_limits,
        back="/limits",
        command="paceline limits set --rate 6 --reason WHY",
        present=_limits_now,
    ),
    Action(
        "budget",
        "Set a budget",
        Role.ADMIN,
        SetBudget,
        _affects_budget,
        set_budgets,
        back="/limits",
        command="paceline budget set --day 5 --month 90 --community NAME --reason WHY",
    ),
    Action(
        "controls",
        "Change controls",
        Role.OPERATOR,
        SetControls,
        _affects_fleet,
        _set_controls,
        back="/limits",
        command="paceline controls set --dry-run --reason WHY",
        present=_controls_now,
        needs=_role_for_controls,
    ),
)
