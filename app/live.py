"""Settings that an operator changes while the fleet runs: one audited row each, seeded by the environment.

A row is made from the settings when there is none. A later change in the environment is applied
where a deployment begins; an operator's own word stays in force until then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute

from app.audit_log import Actor, ActorKind, acting, note_change
from app.errors import ConfigError

V = TypeVar("V")


@dataclass(frozen=True)
class LiveRow(Generic[V]):
    """A table of one row, with `id`, `version` and `seed`, and the dataclass that its columns fill."""

    table: Any
    value: type[V]
    action: str
    """Name of a change in the change log."""

    @property
    def columns(self) -> "list[InstrumentedAttribute[Any]]":
        """Columns that `made` takes, for a query that reads the row beside others."""
        return [getattr(self.table, field.name) for field in fields(self.value)]  # type: ignore[arg-type]

    def made(self, row: Iterable[Any]) -> V:
        """The values of `columns` as what is in force."""
        pairs = zip(self._types, row, strict=True)
        return self.value(*(value if kind is None else kind(value) for kind, value in pairs))

    @cached_property
    def _types(self) -> "list[type[StrEnum] | None]":
        """Words that each column may hold; None where it may hold anything."""
        types = (field.type for field in fields(self.value))  # type: ignore[arg-type]
        return [t if isinstance(t, type) and issubclass(t, StrEnum) else None for t in types]

    def read(self, connection: Connection, seed: Mapping[str, Any]) -> V:
        """Return the row in force; made from the seed when there is none yet."""
        row = connection.execute(select(*self.columns)).one_or_none()
        if row is None:
            self._insert(connection, seed)
            row = connection.execute(select(*self.columns)).one()
        return self.made(row)

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
            with acting(Actor(ActorKind.ENVIRONMENT)):
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
        version: int | None = None,
    ) -> V:
        """Change what is in force, with an audit entry; the caller commits. Raises ConfigError when somebody
        changed it since this `version` was read.
        """
        self.read(connection, seed)  # made if there is none
        connection.execute(select(self.table.version).with_for_update())
        before: dict[str, Any] = asdict(self.read(connection, seed))  # type: ignore[call-overload]
        if version is not None and version != before["version"]:
            raise ConfigError("somebody changed this meanwhile: look again, then change it")
        changes = {name: value for name, value in changes.items() if before[name] != value}
        if changes:
            version = self.table.version + 1
            connection.execute(update(self.table).values(version=version, **changes))
            note_change(
                connection,
                actor=actor,
                action=self.action,
                subject="fleet",
                before={name: before[name] for name in changes},
                after=changes,
                reason=reason,
            )
        return self.read(connection, seed)

    def _insert(self, connection: Connection, seed: Mapping[str, Any]) -> None:
        row = upsert(self.table).values(id=1, version=1, seed=dict(seed), **seed)
        connection.execute(row.on_conflict_do_nothing())
