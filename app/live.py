"""Settings that an operator changes while the fleet runs: one audited row each, seeded by the environment.

A row is made from the settings when there is none. What changes in the environment later is applied
where a deployment begins; an operator's own word stays in force until then.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.models import AuditEntry

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit log."""

    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any]
    after: dict[str, Any]
    reason: str


def list_changes(
    connection: Connection, *, before: datetime | None = None, limit: int = 50
) -> list[Change]:
    """Who changed what, the newest first; not only what is live: agents, content and styles, too."""
    columns = [getattr(AuditEntry, field.name) for field in fields(Change)]
    query = select(*columns).order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.at < before)
    return [Change(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class LiveRow(Generic[V]):
    """A table of one row, with `id`, `version` and `seed`, and the dataclass that its columns fill."""

    table: Any
    value: type[V]
    action: str
    """What a change is called in the audit log."""

    def read(self, connection: Connection, seed: Mapping[str, Any]) -> V:
        """What is in force; made from the seed when there is none yet."""
        columns = [getattr(self.table, field.name) for field in fields(self.value)]  # type: ignore[arg-type]
        row = connection.execute(select(*columns)).one_or_none()
        if row is None:
            self._insert(connection, seed)
            row = connection.execute(select(*columns)).one()
        return self.value(*row)

    def follow(self, connection: Connection, seed: Mapping[str, Any]) -> None:
        """Apply what changed in the environment since last time."""
        query = select(self.table.seed).with_for_update()
        known = connection.execute(query).scalar_one_or_none()
        if known is None:
            self._insert(connection, seed)
            return
        changes = {name: value for name, value in seed.items() if known.get(name) != value}
        if changes:
            said = "settings changed"
            self.change(connection, seed, changes, actor="environment", reason=said)
            connection.execute(update(self.table).values(seed=dict(seed)))

    def change(
        self,
        connection: Connection,
        seed: Mapping[str, Any],
        changes: Mapping[str, Any],
        *,
        actor: str,
        reason: str,
    ) -> V:
        """Change what is in force, with an audit entry; the caller commits."""
        before: dict[str, Any] = asdict(self.read(connection, seed))  # type: ignore[call-overload]
        changes = {name: value for name, value in changes.items() if before[name] != value}
        if changes:
            version = self.table.version + 1
            connection.execute(update(self.table).values(version=version, **changes))
            entry = {
                "actor": actor,
                "action": self.action,
                "subject": "fleet",
                "before": {name: _plain(before[name]) for name in changes},
                "after": {name: _plain(value) for name, value in changes.items()},
                "reason": reason,
            }
            connection.execute(insert(AuditEntry).values(**entry))
        return self.read(connection, seed)

    def _insert(self, connection: Connection, seed: Mapping[str, Any]) -> None:
        row = upsert(self.table).values(id=1, version=1, seed=dict(seed), **seed)
        connection.execute(row.on_conflict_do_nothing())


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
