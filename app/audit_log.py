"""The audit log: every change by a person, the environment or the program itself, with who and why."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from app.models import AuditEntry


class ActorKind(StrEnum):
    """What acts. A name alone does not tell: an account may be called like a system's user."""

    PERSON = "person"
    TOKEN = "token"
    COMMAND = "command"
    CELERY = "celery"
    ENVIRONMENT = "environment"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True)
class Actor:
    """Columns for the person beside the name: of what kind, by which account, from where."""

    kind: ActorKind
    account_id: UUID | None = None
    address: str | None = None


_PROGRAM = Actor(ActorKind.PROGRAM)
_acting: ContextVar[Actor] = ContextVar("acting", default=_PROGRAM)


def act_as(actor: Actor) -> None:
    """Say who acts from now on, in this request or in this process."""
    _acting.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """The same for the block."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


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
    actor_kind: str | None
    address: str | None


def note_change(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reason: str,
    by: Actor | None = None,
) -> None:
    """Add a line, in the transaction that makes the change; `by` whom, if not by who acts just now."""
    who = by or _acting.get()
    connection.execute(
        insert(AuditEntry).values(
            actor=actor,
            action=action,
            subject=subject,
            before=_plain(before),
            after=_plain(after),
            reason=reason,
            actor_kind=who.kind,
            account_id=who.account_id,
            address=who.address,
        )
    )


def list_changes(connection: Connection, *, before: UUID | None = None, limit: int = 50) -> list[Change]:
    """Return changes with their authors, the newest first; what is older than `before` comes first."""
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
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
    }
