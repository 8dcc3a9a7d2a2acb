"""Actions of people, declared once each: pages, JSON API, command line, shell and docs are made from it.

An action is one input with bounds, a role, whom it affects, and one function (`action.Action`). To add one:
an input and a function in the module of its subject, and a row in that module's ACTIONS.
"""

from app.actions import agents, alerts, content, fleet, receivers
from app.actions.action import Action, Desk, Done, Who
from app.errors import NotFound

__all__ = ["ACTIONS", "Action", "Desk", "Done", "Who", "find"]

ACTIONS: tuple[Action, ...] = (
    *fleet.ACTIONS,
    *agents.ACTIONS,
    *content.ACTIONS,
    *receivers.ACTIONS,
    *alerts.ACTIONS,
)


def find(name: str) -> Action:
    """An action by its name; raises NotFound."""
    for action in ACTIONS:
        if action.name == name:
            return action
    raise NotFound(f"no action {name!r}: there are {', '.join(one.name for one in ACTIONS)}")
