"""What `paceline shell` has at hand."""

from datetime import timedelta
from typing import Any

from app.agents import roster
from app.clock import utcnow
from app.runs.progress import Progress, read_progress
from workers.process import services
from workers.tasks import run_agent

HELP = """\
Paceline shell. Runs need workers: `make up` in another terminal.

  run_agent.delay("ada")      start an agent now, by handle or id; returns at once
  agents("ada")               agents whose handle or name holds that text
  status()                    the fleet over the last hour
  services()                  engine, redis and settings, for anything else
"""


def namespace() -> tuple[dict[str, Any], str]:
    """The names of the shell, and the text it opens with."""
    names = {"run_agent": run_agent, "services": services, "agents": agents, "status": status}
    return names, HELP


def agents(search: str = "") -> list[roster.Listed]:
    """Agents whose handle or name holds this text."""
    with services().engine.connect() as connection:
        return roster.list_agents(connection, search=search)


def status() -> Progress:
    """The fleet now, counted over the last hour."""
    now = utcnow()
    with services().engine.connect() as connection:
        return read_progress(connection, services().settings, now, now - timedelta(hours=1))
