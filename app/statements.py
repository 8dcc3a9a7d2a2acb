"""Statements of the hot path: built and compiled once, then given to psycopg as they are.

SQLAlchemy builds, hashes and wraps a statement anew each time it is executed. With 17 statements a run
that was most of a worker's CPU: 0.25 ms for each, where psycopg alone takes 0.03 (docs/performance.md).
Statements are still written in SQLAlchemy's language on the models; only its execution is skipped.
"""

from typing import Any

import psycopg
from psycopg import Cursor
from psycopg import Error as DriverError
from psycopg.sql import Literal
from sqlalchemy import Connection, Executable, PoolProxiedConnection
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.exc import DBAPIError

from app.sql_faults import is_lost

_DIALECT = dialect(dbapi=psycopg)  # type: ignore[no-untyped-call]

AnyConnection = Connection | PoolProxiedConnection
"""SQLAlchemy's, or what its pool gives out without it (`raw_connection`), which is cheaper."""


class Statement:
    """One statement. Values named by `bindparam` are given at each execution, others are written into it,
    where the planner sees them (partial indexes need that).
    """

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        self.sql: str = compiled.string
        for bound, name in compiled.bind_names.items():
            if not bound.required:
                value = str(bound.value) if isinstance(bound.value, str) else bound.value
                written = Literal(value).as_string().replace("%", "%%")
                self.sql = self.sql.replace(f"%({name})s", written)
        assert "POSTCOMPILE" not in self.sql, f"a list has no fixed number of values: {self.sql}"

    def execute(self, connection: AnyConnection, **values: Any) -> "Cursor[tuple[Any, ...]]":
        """Execute it in the connection's transaction; raises SQLAlchemyError, as connections do."""
        pooled = connection.connection if isinstance(connection, Connection) else connection
        assert pooled.driver_connection is not None
        try:
            return pooled.driver_connection.execute(self.sql, values)  # type: ignore[no-any-return]
        except DriverError as error:
            raise _translated(pooled, self.sql, error) from error

    def one(self, connection: AnyConnection, **values: Any) -> tuple[Any, ...]:
        """The row of a statement that always has one."""
        row = self.execute(connection, **values).fetchone()
        assert row is not None, self.sql
        return row

    def first(self, connection: AnyConnection, **values: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        return self.execute(connection, **values).fetchone()

    def all(self, connection: AnyConnection, **values: Any) -> list[tuple[Any, ...]]:
        """All rows."""
        return self.execute(connection, **values).fetchall()


def _translated(pooled: PoolProxiedConnection, sql: str, error: DriverError) -> Exception:
    """The error as SQLAlchemy raises it; a connection that is lost does not go back into the pool."""
    is_gone = is_lost(error) or _DIALECT.is_disconnect(error, pooled.driver_connection, None)  # type: ignore[no-untyped-call]
    if is_gone:
        pooled._pool._invalidate(pooled, error)  # as SQLAlchemy does: the others of its age go, too
    return DBAPIError.instance(
        sql, None, error, DriverError, connection_invalidated=is_gone, dialect=_DIALECT
    )
