"""The audit log: every change by a person, the environment or the program itself, with who and why."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from app.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Change:
    """One line of it. Ids sort by time; all lines of one act have the same time."""

    id: UUID
    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any]
    after: dict[str, Any]
    reason: str


def note_change(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reason: str,
) -> None:
    """Add a line, in the transaction that makes the change."""
    connection.execute(
        insert(AuditEntry).values(
            actor=actor,
            action=action,
            subject=subject,
            before=_plain(before),
            after=_plain(after),
            reason=reason,
        )
    )


def list_changes(
    connection: Connection, *, before: UUID | None = None, limit: int = 50
) -> list[Change]:
    """Who changed what, the newest first; what is older than `before` comes first."""
    columns = [getattr(AuditEntry, field.name) for field in fields(Change)]
    query = select(*columns).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return [Change(*row) for row in connection.execute(query)]


def last_change(connection: Connection, action: str, name: str) -> Change | None:
    """The latest change of this kind that set something of this name."""
    columns = [getattr(AuditEntry, field.name) for field in fields(Change)]
    query = select(*columns).where(AuditEntry.action == action, AuditEntry.after.has_key(name))
    row = connection.execute(query.order_by(AuditEntry.at.desc()).limit(1)).one_or_none()
    return None if row is None else Change(*row)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
