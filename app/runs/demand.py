"""Demand of the fleet as it is set up."""

from sqlalchemy import Connection, func, select

from app.agents.activities import expected_calls
from app.models import Agent, AgentState, Limits
from app.settings import Settings
from app.usage.forecast import Demand


def planned_demand(connection: Connection, settings: Settings) -> Demand:
    """Calls per day: the active agents' expected calls, or the cap when that is less."""
    rate = select(Limits.rate).scalar_subquery()
    query = select(func.count(), rate).where(Agent.state == AgentState.ACTIVE)
    row = connection.execute(query).one()
    return demand_of(row[0], settings.limits.rate if row[1] is None else row[1], settings)


def demand_of(active_agents: int, rate: float, settings: Settings) -> Demand:
    """The same from what is known already. Pure."""
    period_s = settings.cycle.period_s
    wanted = active_agents * expected_calls(settings.activity, period_s) / period_s
    capped = ", held back by the cap" if wanted > rate else ""
    return Demand(min(wanted, rate) * 86_400, f"{active_agents} active agents{capped}")
