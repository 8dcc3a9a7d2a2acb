"""How migrations run: in one transaction each, one migrator at a time, never waiting long for a lock.

The lock is transactional, because a session lock means nothing behind a transaction pooler. All
that happens, the version table included, happens in the schema `paceline`: other tables of the
database, such as a Supabase project's own `public.agents`, are neither read nor compared.
"""

from alembic import context
from sqlalchemy import Connection, inspect, text

from app import models  # noqa: F401  (importing it fills Base.metadata)
from app.db import SCHEMA, Base, make_engine
from app.settings import get_settings
from app.wiring import find_addresses


def include_name(name: str | None, kind: str, parents: dict[str, str | None]) -> bool:
    """Compare our own schema only, and not the ledger's partitions, which come and go."""
    if kind == "schema":
        return name == SCHEMA
    is_partition = kind == "table" and str(name).startswith("ai_request_log_")
    return parents.get("schema_name") == SCHEMA and not is_partition


def migrate(connection: Connection) -> None:
    """Run what was asked for on this connection, which has a transaction open."""
    connection.execute(text("set local lock_timeout = '5s'"))
    connection.execute(text("select pg_advisory_xact_lock(hashtext('paceline.alembic'))"))
    # Asked first, because `if not exists` needs the right to create one even where it exists.
    if not inspect(connection).has_schema(SCHEMA):
        connection.execute(text(f"create schema {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=include_name,
        compare_type=True,
        compare_server_default=True,
        transactional_ddl=True,
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    engine = make_engine(find_addresses(get_settings()).database_url)
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
