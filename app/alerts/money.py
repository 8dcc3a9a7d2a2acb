"""Messages about money: budgets, credits that end, a source that runs out."""

from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from app.alerts.outbox import Message
from app.clock import utcnow
from app.controls import read_controls
from app.models import OverBudget
from app.money import short_dollars
from app.runs.asked import asked_by
from app.runs.budgets import BudgetStatus, read_budgets
from app.runs.demand import planned_demand
from app.runs.outside import credits_left
from app.settings import Settings
from app.usage.forecast import forecast

BUDGET_STEPS = (50, 80, 95, 100)
NAMES = {"day": "today", "month": "this month"}


def budgets(connection: Connection, settings: Settings) -> list[Message]:
    """Steps of budgets that are reached, and models that no budget can hold."""
    policy = OverBudget(read_controls(connection, settings.controls).over_budget)
    now = utcnow()
    limited = [budget for budget in read_budgets(connection, settings, now) if budget.limit]
    found = [m for budget in limited for m in budget_messages(budget, settings.zone, policy)]
    problem = asked_by(settings, "", now).price_problem
    if limited and problem:
        day = f"{now.astimezone(settings.zone):%Y-%m-%d}"
        title = "Paceline: a budget cannot hold models without a price"
        found.append(Message(f"no_price.{day}", "warning", title, problem))
    return found


def budget_messages(budget: BudgetStatus, zone: ZoneInfo, policy: OverBudget) -> list[Message]:
    """A message of the highest step that is reached; another budget is told of anew. Pure."""
    share = budget.share or 0.0
    whose = "" if budget.is_of_fleet else budget.of
    of = f" of {whose}" if whose else ""
    mend = f"`paceline budget set{f' --community {whose!r}' if whose else ''}` changes it."
    then = {
        OverBudget.STOP: "calls are refused",
        OverBudget.POSTS_ONLY: "agents go on with posts only, which is paid beyond the budget",
        OverBudget.CHEAPER_MODEL: "the cheaper model is asked, which is paid beyond the budget",
    }[policy]
    reached = [step for step in BUDGET_STEPS if (budget.is_used_up if step == 100 else share >= step)]
    return [
        Message(
            key=f"budget.{budget.when}.{budget.limit}.{step}" + (f".{whose}" if of else ""),
            severity="failure" if step == 100 else "warning",
            title=f"Paceline: {step} % of the budget{of} of {NAMES[budget.period]} is spent",
            body=f"{short_dollars(budget.spent)} of {short_dollars(budget.limit)} ({share:.0f} %), "
            f"estimated, {budget.when} in {zone.key}. "
            + (f"Now {then}. {mend}" if step == 100 else f"At 100 % {then}. {mend}"),
        )
        for step in reached[-1:]
    ]


def balance(connection: Connection, settings: Settings) -> list[Message]:
    """Few credits left at twitterapi.io; told once a day for as long as it lasts."""
    left, least = credits_left(connection), settings.sources.low_balance_credits
    if left is None or left >= least:
        return []
    today = utcnow().astimezone(settings.zone)
    body = f"{left:,} credits are left, the alert is set to {least:,}. Learning a style takes about 300, a "
    body += "scan for mentions 15 and more; without credits both stop and agents write in the generic style."
    key = f"twitterapi.low.{today:%Y-%m-%d}"
    return [Message(key, "warning", "Paceline: twitterapi.io runs out of credits", body)]


def runway(connection: Connection, settings: Settings) -> list[Message]:
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
    left = short_dollars(found.credits_left or 0)
    body = f"{left} are left and last {found.runway_days:g} days ({found.basis})."
    bought = f"{settings.usage.credits_usd:g}.{settings.usage.credits_since or ''}"
    return [Message(f"runway.{month}.{bought}.{step:g}", "warning", "Paceline: the credits end soon", body)]
