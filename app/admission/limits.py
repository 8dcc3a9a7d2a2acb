"""The limits in force: one row in Postgres, changed with an audit entry, copied into Redis by version."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.models import AuditEntry
from app.models import Limits as LimitsRow
from app.settings import LimitSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """What admission enforces; 0 means no limit."""

    version: int
    rate: float
    burst: int
    max_wait_s: float
    tokens_per_minute: int
    agent_daily_tokens: int
    budget_day_micros: int
    budget_month_micros: int
    paused_until: datetime | None


def read_limits(connection: Connection, settings: LimitSettings) -> Limits:
    """The limits in force; made from the settings when there are none yet."""
    columns = [getattr(LimitsRow, field.name) for field in fields(Limits)]
    row = connection.execute(select(*columns)).one_or_none()
    if row is None:
        _insert(connection, settings)
        row = connection.execute(select(*columns)).one()
    return Limits(*row)


def follow_settings(connection: Connection, settings: LimitSettings) -> None:
    """Apply what changed in the environment since last time; an operator's later word stays otherwise.

    Called where a deployment begins (`paceline up`, `paceline db upgrade`), not by every worker.
    """
    seed = connection.execute(select(LimitsRow.seed).with_for_update()).scalar_one_or_none()
    if seed is None:
        _insert(connection, settings)
        return
    wanted = _from_settings(settings)
    changes = {name: value for name, value in wanted.items() if seed.get(name) != value}
    if changes:
        change_limits(connection, settings, changes, actor="environment", reason="settings changed")
        connection.execute(update(LimitsRow).values(seed=wanted))


def change_limits(
    connection: Connection,
    settings: LimitSettings,
    changes: dict[str, Any],
    *,
    actor: str,
    reason: str,
) -> Limits:
    """Change limits, with an audit entry; the caller commits and then puts them in force."""
    before = asdict(read_limits(connection, settings))
    changes = {name: value for name, value in changes.items() if before[name] != value}
    if changes:
        connection.execute(update(LimitsRow).values(version=LimitsRow.version + 1, **changes))
        entry = {
            "actor": actor,
            "action": "limits.set",
            "subject": "fleet",
            "before": {name: _plain(before[name]) for name in changes},
            "after": {name: _plain(value) for name, value in changes.items()},
            "reason": reason,
        }
        connection.execute(insert(AuditEntry).values(**entry))
    return read_limits(connection, settings)


def _insert(connection: Connection, settings: LimitSettings) -> None:
    values = _from_settings(settings)
    row = upsert(LimitsRow).values(id=1, version=1, seed=values, **values)
    connection.execute(row.on_conflict_do_nothing())


def _from_settings(settings: LimitSettings) -> dict[str, Any]:
    return {
        "rate": settings.rate,
        "burst": settings.burst,
        "max_wait_s": settings.max_wait_s,
        "tokens_per_minute": settings.tokens_per_minute,
        "agent_daily_tokens": settings.agent_daily_tokens,
        "budget_day_micros": round(settings.budget_day_usd * 1e6),
        "budget_month_micros": round(settings.budget_month_usd * 1e6),
    }


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
