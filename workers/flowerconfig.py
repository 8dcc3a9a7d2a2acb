"""Flower's columns for a run: the agent, its cycle, and where the run's page is.

celery -A workers flower --conf=workers/flowerconfig.py
"""

import ast
from typing import Any

from app.settings import get_settings
from workers.names import RUN


def format_task(task: Any) -> Any:
    """The task as Flower lists it."""
    if task.name == RUN and task.args:
        agent, cycle = [*ast.literal_eval(task.args), None][:2]
        task.args = f"{agent}, cycle of {cycle}" if cycle else f"{agent}, asked for"
        task.kwargs = f"{get_settings().web.url}/runs/{task.uuid}"
    return task
