"""Budgets and what is spent of them by the ledger, for alerts, pages, command line and metrics alike."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.admission.limits import Limits, read_limits
from app.budget_rule import is_used_up
from app.community.budgets import list_budgets
from app.settings import Settings
from app.usage.periods import period_start
from app.usage.prices import models_without_price
from app.usage.reports import spent_by_community

PERIODS = (("day", "today", "%Y-%m-%d"), ("month", "this month", "%Y-%m"))
FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in micro-dollars. `spent` is what calls cost, with what is reserved where nobody knows.
    A `limit` of 0 is none. `period` is day or month, `when` names the one that is running, like 2026-11.
    """

    of: str
    period: str
    when: str
    limit: int
    spent: int

    @property
    def is_of_fleet(self) -> bool:
        """Whether it is the whole fleet's, not a community's."""
        return self.of == FLEET

    @property
    def is_used_up(self) -> bool:
        """Whether it refuses calls."""
        return is_used_up(self.spent, self.limit)

    @property
    def share(self) -> float | None:
        """Percent that is spent; None without a limit."""
        return 100 * self.spent / self.limit if self.limit else None


def read_budgets(
    connection: Connection,
    settings: Settings,
    now: datetime,
    *,
    limits: Limits | None = None,
    cut: datetime | None = None,
) -> list[BudgetStatus]:
    """The fleet's budgets, also those without a limit, then those of communities that have one. `limits` and
    `cut` (app.usage.reports.read_cut) are read when they are not given.
    """
    limits = limits or read_limits(connection, settings.limits)
    own = list_budgets(connection)
    fleet = {"day": limits.budget_day_micros, "month": limits.budget_month_micros}
    starts = [period_start(name, now, settings.zone) for _, name, _ in PERIODS]
    spent = spent_by_community(connection, starts, now, settings.zone, cut)
    found, of_communities = [], []
    for (period, _, shape), start, used in zip(PERIODS, starts, spent, strict=True):
        when = f"{start.astimezone(settings.zone):{shape}}"
        found.append(BudgetStatus(FLEET, period, when, fleet[period], sum(used.values())))
        for budget in own:
            limit = budget.day_micros if period == "day" else budget.month_micros
            if limit:
                of = budget.community
                of_communities.append(BudgetStatus(of, period, when, limit, used.get(budget.id, 0)))
    return [*found, *sorted(of_communities, key=lambda budget: (budget.of, budget.period))]


def price_problem(settings: Settings, now: datetime) -> str | None:
    """Say which models no budget can hold, because they have no price; None when all have one."""
    models = models_without_price(settings.gateway.every_model, now, settings.usage)
    if not models:
        return None
    names = ", ".join(models)
    what = (
        "their calls are counted as free"
        if settings.usage.unknown_prices == "warn"
        else "a budget refuses their calls"
    )
    return (
        f"no price is known for {names}, so {what}: set PACELINE_USAGE__PRICES "
        f'(\'[{{"model": "{models[0]}", "input": 0.6, "output": 2.2}}]\', dollars per million tokens)'
    )
