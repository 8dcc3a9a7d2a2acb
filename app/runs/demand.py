"""What the fleet as it is set up calls for."""

from sqlalchemy import Connection, func, select

from app.admission.limits import read_limits
from app.agents.activities import expected_calls
from app.models import Agent, AgentState
from app.settings import Settings
from app.usage.forecast import Demand


def planned_demand(connection: Connection, settings: Settings) -> Demand:
    """Calls per day: the active agents' expected calls, or the cap when that is less."""
    query = select(func.count()).where(Agent.state == AgentState.ACTIVE)
    agents = connection.execute(query).scalar_one()
    period_s = settings.cycle.period_s
    wanted = agents * expected_calls(settings.activity, period_s) / period_s
    rate = read_limits(connection, settings.limits).rate
    capped = ", held back by the cap" if wanted > rate else ""
    return Demand(min(wanted, rate) * 86_400, f"{agents} active agents{capped}")
