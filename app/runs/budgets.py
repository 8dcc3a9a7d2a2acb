"""Budgets and what is spent of them by the ledger, for alerts, pages, command line and metrics alike."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.admission.limits import Limits, read_limits
from app.budget_rule import is_used_up
from app.community.budgets import list_budgets
from app.money import dollars, with_held
from app.settings import Settings
from app.usage.calls import held_by_community
from app.usage.periods import period_start
from app.usage.reports import spent_by_community

PERIODS = (("day", "today", "%Y-%m-%d"), ("month", "this month", "%Y-%m"))
FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in micro-dollars. `spent` is what ended calls cost, with what was reserved where nobody knows;
    `held` is reserved by calls under way. A `limit` of 0 is none. `period` is day or month, `when` names the
    one that is running, like 2026-11.
    """

    of: str
    period: str
    when: str
    limit: int
    spent: int
    held: int = 0

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
    watermark: datetime | None = None,
) -> list[BudgetStatus]:
    """The fleet's budgets, also those without a limit, then those of communities that have one. `limits` and
    `watermark` (app.usage.rollups.read_watermark) are read when they are not given.
    """
    limits = limits or read_limits(connection, settings.limits)
    own = list_budgets(connection)
    fleet = {"day": limits.budget_day_micros, "month": limits.budget_month_micros}
    starts = [period_start(name, now, settings.zone) for _, name, _ in PERIODS]
    spent = spent_by_community(connection, starts, now, settings.zone, watermark)
    held = held_by_community(connection)
    found, of_communities = [], []
    for (period, _, shape), start, used in zip(PERIODS, starts, spent, strict=True):
        when = f"{start.astimezone(settings.zone):{shape}}"
        whole = (sum(used.values()), sum(held.values()))
        found.append(BudgetStatus(FLEET, period, when, fleet[period], *_apart(*whole)))
        for budget in own:
            limit = budget.day_micros if period == "day" else budget.month_micros
            if limit:
                own_share = _apart(used.get(budget.id, 0), held.get(budget.id, 0))
                of_communities.append(BudgetStatus(budget.community, period, when, limit, *own_share))
    return [*found, *sorted(of_communities, key=lambda budget: (budget.of, budget.period))]


def spent_of(budget: BudgetStatus) -> str:
    """Return in words what is spent of a budget, and what calls under way hold."""
    return f"{dollars(budget.spent)} of {dollars(budget.limit)}{with_held(budget.held)}"


def _apart(counted: int, held: int) -> tuple[int, int]:
    """Spent and held parts of a sum. A call of yesterday may be under way."""
    held = min(held, counted)
    return counted - held, held
