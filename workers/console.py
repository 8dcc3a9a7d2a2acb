"""Names of `paceline shell`."""

import getpass
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.actions import ACTIONS, Desk, Done, Who, find
from app.actions.agents import start_runs
from app.actions.inputs import given
from app.admission.limits import Limits, read_limits
from app.admission.state import State
from app.agents import roster
from app.clock import utcnow
from app.runs import explain as explanations
from app.runs.explain import Explanation
from app.runs.progress import Progress, read_progress
from app.runs.report import RunReport, wait_for_run
from app.usage import periods, reports
from app.usage.periods import Period
from app.usage.reports import Group, Usage
from workers.process import services
from workers.tasks import run_agent

HELP = """\
Paceline shell. Runs need workers: `make up` in another terminal.

  run_agent.delay("ada")      start an agent now, by handle or id; returns at once
      .get(timeout=60)        wait for the run: its posts, comments, calls and cost
      .revoke()               end it
  dispatch("ada", wait=True)  the same in one
  agents("ada")               agents whose handle or name holds that text
  explain("ada")              why it has not run
  act("pause", minutes=10)    what the dashboard's buttons do; act() lists them
  status()                    the fleet over the last hour
  usage()                     requests, tokens, cost: today, this week, this month; usage("agent") by agent
  limits()                    what is in force, and admission as it stands
  services()                  engine, redis and settings, for anything else
"""


def namespace() -> tuple[dict[str, Any], str]:
    """The names of the shell, and the text it opens with."""
    functions = (dispatch, agents, explain, act, status, usage, limits, services)
    return {"run_agent": run_agent} | {f.__name__: f for f in functions}, HELP


def dispatch(agent: str, *, wait: bool = False, timeout_s: float = 120) -> UUID | RunReport:
    """Start an agent now; the run's id or, with `wait`, the run when it has ended."""
    (run_id,) = start_runs(_desk(), [agent], Who(getpass.getuser(), "from a shell"))
    return wait_for_run(services().engine, run_id, timeout_s) if wait else run_id


def act(name: str = "", reason: str = "from a shell", **fields: Any) -> Done | list[str]:
    """Do an action of the dashboard, audited: act("agents-pause", agents=["ada"]). Without a name: which
    there are.
    """
    if not name:
        return [one.name for one in ACTIONS]
    action = find(name)
    return action.run(_desk(), given(action.ask, reason, **fields), Who(getpass.getuser(), reason))


def _desk() -> Desk:
    held = services()
    return Desk(held.settings, held.engine, held.admission)


def agents(search: str = "") -> list[roster.Listed]:
    """Agents whose handle or name holds this text."""
    with services().engine.connect() as connection:
        return roster.list_agents(connection, search=search)


def explain(agent: str) -> Explanation:
    """Why an agent has not run, or when it will."""
    with services().engine.connect() as connection:
        agent_id = roster.find_known(connection, agent)
    return explanations.explain(services(), agent_id, utcnow())


def status() -> Progress:
    """The fleet now, counted over the last hour."""
    now = utcnow()
    with services().engine.connect() as connection:
        return read_progress(connection, services().settings, now, now - timedelta(hours=1))


def usage(by: str | None = None) -> list[Period] | list[tuple[str, Usage]]:
    """Today, this week and this month; or today by agent, community, type, model or outcome."""
    now, zone = utcnow(), services().settings.zone
    with services().engine.connect() as connection:
        if by is None:
            return periods.periods(connection, now, zone)
        today = periods.period_start("today", now, zone)
        return reports.breakdown(connection, today, now, Group(by), zone)


def limits() -> tuple[Limits, State]:
    """The limits in force, and admission as it stands."""
    with services().engine.begin() as connection:
        found = read_limits(connection, services().settings.limits)
    return found, services().admission.state()
