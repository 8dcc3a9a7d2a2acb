"""Flower, the worker monitor: behind a password, and read-only unless the operator gave one.

Its own `/metrics` and `/healthcheck` are open by its design; they name workers and tasks, never agents.
"""

import secrets
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from app.cli.parts import Part, celery_command, require_port
from app.embedded.process import write_private
from app.settings import Settings

USER = "viewer"
TASKS_MAX = 20_000
"""Number of tasks whose state it remembers, the latest ones: memory is bounded, whatever the number of
agents.
"""


def check(settings: Settings) -> None:
    """Raise PortTaken when something listens there."""
    flower = settings.flower
    require_port(flower.host, flower.port, "PACELINE_FLOWER__PORT", "--no-flower")


def start(settings: Settings, env: Mapping[str, str], logs: Path) -> Part:
    """Start it. Without a password of the operator's it gets one of its own, and looks only."""
    flower = settings.flower
    command = celery_command(
        "flower",
        f"--address={flower.host}",
        f"--port={flower.port}",
        f"--max_tasks={TASKS_MAX}",
        f"--conf={files('workers') / 'flowerconfig.py'}",
        "--purge_offline_workers=60",
        *(() if flower.basic_auth else ("--read_only",)),
    )
    given = flower.basic_auth.get_secret_value() if flower.basic_auth else None
    password = given or f"{USER}:{_own_password(settings)}"
    return Part("flower", command, {**env, "FLOWER_BASIC_AUTH": password}, logs)


def about(settings: Settings) -> str:
    """Its address, and how to get in."""
    address = settings.flower.address
    if settings.flower.basic_auth:
        return address
    return f"{address}        user {USER}, password in {_file(settings)}; it looks only"


def _own_password(settings: Settings) -> str:
    file = _file(settings)
    if not file.exists():
        write_private(file, secrets.token_urlsafe(12) + "\n")
    return file.read_text().strip()


def _file(settings: Settings) -> Path:
    return settings.home / "flower.password"
