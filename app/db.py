"""The connection to PostgreSQL: URL, engine, naming of constraints."""

from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from typing import Any, ClassVar

from psycopg import Error as DriverError
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import (
    DateTime,
    Engine,
    ExceptionContext,
    MetaData,
    PoolProxiedConnection,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase

from app.clock import monotonic
from app.errors import Unreachable
from app.sql_faults import explain, is_lost
from app.urls import parse_database

SCHEMA = "paceline"
IDLE_S = 1.0
"""A connection that was in use within this time is not asked whether it lives: the question costs as much
as a statement (0.03 ms of CPU), and one that died meanwhile is replaced with all others at the first error.
"""


RECYCLE_S = 600
"""Connections are made anew after so long. After a failover the old primary may stay up and take no writes,
and its connections would never break.
"""


class Base(DeclarativeBase):
    """Root of all tables; they live in a schema of their own, beside whatever else is there."""

    type_annotation_map: ClassVar = {str: Text, datetime: DateTime(timezone=True)}
    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        },
    )


def make_engine(
    url: str,
    *,
    pool_size: int = 5,
    application_name: str = "paceline",
    setting: str = "DATABASE_URL",
    autocommit: bool = False,
) -> Engine:
    """An engine for any address that app.urls takes; `setting` is what a person must look at when it is
    wrong. `autocommit`: each statement is a transaction of its own.

    Behind a transaction pooler (`?pooler=transaction`, or port 6543, which is Supabase's) server connections
    change hands between transactions, so nothing is prepared there: the next transaction may find another
    client's statement under the same name.
    """
    found = parse_database(url, setting)
    is_shared = found.is_pooled
    arguments: dict[str, Any] = {
        "connect_timeout": 5,
        "application_name": application_name,
        "autocommit": autocommit,
    }
    if is_shared:
        arguments["prepare_threshold"] = None
    engine = create_engine(
        found.sqlalchemy,
        connect_args=arguments,
        pool_size=pool_size,
        max_overflow=5,
        pool_recycle=RECYCLE_S,
        pool_use_lifo=True,
        pool_reset_on_return=None if autocommit else "rollback",
        hide_parameters=True,  # values of a failed statement are nobody's business in a log
    )
    event.listen(engine, "connect", _set_up_shared if is_shared else _set_up)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "handle_error", _drop_all_of_a_lost_server)
    event.listen(engine, "checkout", _ask_if_idle)
    return engine


def _set_up(connection: Any, _: object) -> None:
    """Times in UTC, whatever zone the server lives in. And no JIT: compiling a report takes longer than
    running it (15 ms with and 6.5 without, over ten million calls), because partitions make it look dear.
    """
    with connection.cursor() as cursor:
        cursor.execute("set jit = off; set timezone = 'UTC'")
    connection.commit()


def _set_up_shared(connection: Any, _: object) -> None:
    """The zone is kept by PgBouncer, which knows that setting, and harms nobody elsewhere; times are read as
    UTC whatever became of it. JIT is left as it is: it would be off for other clients, too.
    """
    connection.adapters.register_loader("timestamptz", _InUtc)
    with connection.cursor() as cursor:
        cursor.execute("set timezone = 'UTC'")
    connection.commit()


class _InUtc(TimestamptzLoader):
    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._timezone = UTC


def _drop_all_of_a_lost_server(context: ExceptionContext) -> None:
    """Replace every connection of the pool at the first sign that the server is lost. A server that answers
    but takes no writes is lost, too.
    """
    if is_lost(context.original_exception):
        context.is_disconnect = True


def borrowed(engine: Engine) -> AbstractContextManager[PoolProxiedConnection]:
    """A connection of the pool without SQLAlchemy's around it, for app.statements."""
    return closing(engine.raw_connection())


def _note_use(_: object, record: Any) -> None:
    record.info["used"] = monotonic()


def _ask_if_idle(connection: Any, record: Any, _: object) -> None:
    """Replace a connection that the server dropped while it lay in the pool."""
    if monotonic() - record.info.get("used", monotonic()) < IDLE_S:
        return
    try:
        connection.execute("")
        connection.rollback()  # nothing for one that commits by itself
    except DriverError as error:
        raise DisconnectionError("dropped while idle") from error


def check_database(engine: Engine, setting: str = "DATABASE_URL") -> None:
    """Raise Unreachable with the mend when PostgreSQL does not answer."""
    try:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError as error:
        said, _ = explain(error)
        raise Unreachable(f"{said}; it was asked at {where(engine)}, as {setting} says") from None


def where(engine: Engine) -> str:
    """The address without its password."""
    return engine.url.render_as_string(hide_password=True)
