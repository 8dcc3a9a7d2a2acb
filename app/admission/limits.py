"""The limits in force: one row in Postgres, changed with an audit entry, copied into Redis by version."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.live import LiveRow
from app.models import Limits as LimitsRow
from app.money import to_micros
from app.settings import LimitSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that admission enforces; 0 means no limit."""

    version: int
    rate: float
    burst: int
    max_wait_s: float
    tokens_per_minute: int
    agent_daily_tokens: int
    budget_day_micros: int
    budget_month_micros: int
    paused_until: datetime | None


_row = LiveRow(LimitsRow, Limits, "limits.set")


def read_limits(connection: Connection, settings: LimitSettings) -> Limits:
    """The limits in force; made from the settings when there are none yet."""
    return _row.read(connection, _seed(settings))


def follow_settings(connection: Connection, settings: LimitSettings) -> None:
    """Apply what changed in the environment since last time; an operator's later word stays otherwise.

    Called where a deployment begins (`paceline up`, `paceline db upgrade`), not by every worker.
    """
    _row.follow(connection, _seed(settings))


def change_limits(
    connection: Connection,
    settings: LimitSettings,
    changes: dict[str, Any],
    *,
    actor: str,
    reason: str,
    version: int | None = None,
) -> Limits:
    """Change limits, with an audit entry; the caller commits and then puts them in force."""
    return _row.change(connection, _seed(settings), changes, actor=actor, reason=reason, version=version)


def _seed(settings: LimitSettings) -> dict[str, Any]:
    return {
        "rate": settings.rate,
        "burst": settings.burst,
        "max_wait_s": settings.max_wait_s,
        "tokens_per_minute": settings.tokens_per_minute,
        "agent_daily_tokens": settings.agent_daily_tokens,
        "budget_day_micros": to_micros(settings.budget_day_usd),
        "budget_month_micros": to_micros(settings.budget_month_usd),
    }
