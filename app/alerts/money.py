"""What about money is worth a message: budgets, credits that end, a source that runs out."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app.admission.limits import read_limits
from app.alerts.outbox import Message
from app.clock import utcnow
from app.community.budgets import list_budgets
from app.controls import read_controls
from app.models import OverBudget
from app.runs.demand import planned_demand
from app.runs.outside import credits_left
from app.settings import Settings
from app.usage.forecast import forecast
from app.usage.periods import period_start
from app.usage.reports import cost_by_community, usage_between

BUDGET_STEPS = (50, 80, 95, 100)


def money_messages(connection: Connection, settings: Settings) -> list[Message]:
    """Every message about money that the facts call for now."""
    return [
        *_budgets(connection, settings),
        *_balance(connection, settings),
        *_runway(connection, settings),
    ]


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget, and what is spent of it."""

    period: str
    name: str
    micros: int
    spent: int
    whose: str = ""
    """A community; empty for the fleet."""


def _budgets(connection: Connection, settings: Settings) -> list[Message]:
    limits = read_limits(connection, settings.limits)
    policy = OverBudget(read_controls(connection, settings.controls).over_budget)
    now, zone = utcnow(), settings.zone
    found = []
    for period, micros in (
        ("today", limits.budget_day_micros),
        ("this month", limits.budget_month_micros),
    ):
        if micros:
            start = period_start(period, now, zone)
            spent = usage_between(connection, start, now, zone).cost_micros
            shape = "%Y-%m-%d" if period == "today" else "%Y-%m"
            name = f"{start.astimezone(zone):{shape}}"
            found.append(Budget(period, name, micros, spent))
    found += _of_communities(connection, now, zone)
    return [message for budget in found for message in budget_messages(budget, zone, policy)]


def _of_communities(connection: Connection, now: datetime, zone: ZoneInfo) -> list[Budget]:
    own, found = list_budgets(connection), []
    for period, shape in (("today", "%Y-%m-%d"), ("this month", "%Y-%m")) if own else ():
        start = period_start(period, now, zone)
        spent = cost_by_community(connection, start, now, zone)
        for budget in own:
            micros = budget.day_micros if period == "today" else budget.month_micros
            if micros:
                name = f"{start.astimezone(zone):{shape}}"
                found.append(
                    Budget(period, name, micros, spent.get(budget.id, 0), budget.community)
                )
    return found


def budget_messages(budget: Budget, zone: ZoneInfo, policy: OverBudget) -> list[Message]:
    """One message for each step that is reached; another budget is told of anew. Pure."""
    share = 100 * budget.spent / budget.micros
    of = f" of {budget.whose}" if budget.whose else ""
    mend = f"`paceline budget set{f' --community {budget.whose!r}' if budget.whose else ''}` changes it."
    then = {
        OverBudget.STOP: "calls are refused",
        OverBudget.POSTS_ONLY: "agents go on with posts only, which is paid beyond the budget",
        OverBudget.CHEAPER_MODEL: "the cheaper model is asked, which is paid beyond the budget",
    }[policy]
    return [
        Message(
            key=f"budget.{budget.name}.{budget.micros}.{step}" + (f".{budget.whose}" if of else ""),
            severity="failure" if step == 100 else "warning",
            title=f"Paceline: {step} % of the budget{of} of {budget.period} is spent",
            body=f"${budget.spent / 1e6:,.2f} of ${budget.micros / 1e6:,.2f} ({share:.0f} %), estimated, "
            f"{budget.name} in {zone.key}. "
            + (f"Now {then}. {mend}" if step == 100 else f"At 100 % {then}. {mend}"),
        )
        for step in BUDGET_STEPS
        if share >= step
    ]


def _balance(connection: Connection, settings: Settings) -> list[Message]:
    """Few credits left at twitterapi.io; told once a day for as long as it lasts."""
    left, least = credits_left(connection), settings.sources.low_balance_credits
    if left is None or left >= least:
        return []
    today = utcnow().astimezone(settings.zone)
    body = f"{left:,} credits are left, the alert is set to {least:,}. Learning a style takes about 300, a "
    body += "scan for mentions 15 and more; without credits both stop and agents write in the generic style."
    key = f"twitterapi.low.{today:%Y-%m-%d}"
    return [Message(key, "warning", "Paceline: twitterapi.io runs out of credits", body)]


def _runway(connection: Connection, settings: Settings) -> list[Message]:
    """The credits end soon; told at each halving of the days, so that it does not nag."""
    least = settings.alerts.runway_days
    if not (least and settings.usage.credits_usd):
        return []
    demand = planned_demand(connection, settings)
    found = forecast(connection, settings.usage, demand, utcnow(), settings.zone)
    if found.runway_days is None or found.runway_days >= least:
        return []
    step = least
    while step / 2 > found.runway_days and step > least / 16:
        step /= 2
    month = f"{utcnow().astimezone(settings.zone):%Y-%m}"
    left = f"${(found.credits_left or 0) / 1e6:,.2f}"
    body = f"{left} are left and last {found.runway_days:g} days ({found.basis})."
    bought = f"{settings.usage.credits_usd:g}.{settings.usage.credits_since or ''}"
    return [
        Message(
            f"runway.{month}.{bought}.{step:g}", "warning", "Paceline: the credits end soon", body
        )
    ]
