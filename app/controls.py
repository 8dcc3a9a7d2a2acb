"""Rules for what agents may do and publish now: one audited row, read at the start of every run.

Everything here takes effect with the next run of each agent, without a restart.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from app.live import LiveRow
from app.models import Controls as ControlsRow
from app.models import Links, OverBudget, Review
from app.settings import ControlSettings


@dataclass(frozen=True, slots=True)
class Controls:
    """Rules in force; a cap of 0 means none, `duplicates_s` of 0 that texts may be repeated."""

    version: int
    dry_run: bool
    review: Review
    paused_activities: list[str]
    posts_per_hour: int
    posts_per_day: int
    comments_per_hour: int
    comments_per_day: int
    banned_words: list[str]
    links: Links
    duplicates_s: int
    over_budget: OverBudget


_row = LiveRow(ControlsRow, Controls, "controls.set")
columns, made = _row.columns, _row.made
"""For a query that reads the controls beside other things: what it selects, and what comes of that."""


def read_controls(connection: Connection, settings: ControlSettings) -> Controls:
    """The controls in force; made from the settings when there are none yet."""
    return _row.read(connection, _seed(settings))


def follow_settings(connection: Connection, settings: ControlSettings) -> None:
    """Apply what changed in the environment since last time; called where a deployment begins."""
    _row.follow(connection, _seed(settings))


def change_controls(
    connection: Connection,
    settings: ControlSettings,
    changes: dict[str, Any],
    *,
    actor: str,
    reason: str,
    version: int | None = None,
) -> Controls:
    """Change controls, with an audit entry; the caller commits."""
    return _row.change(connection, _seed(settings), changes, actor=actor, reason=reason, version=version)


def _seed(settings: ControlSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json")
