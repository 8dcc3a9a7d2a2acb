"""The schema comes from Alembic alone, next to whatever else the database holds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, inspect, text

from app import migrations
from app.cli import proofs
from app.clock import utcnow
from app.db import SCHEMA, make_engine
from app.errors import MigrationsPending
from app.usage import partitions
from tests.support.program import as_role


@pytest.fixture
def fresh(embedded) -> Iterator[Engine]:
    """An engine on a database with nothing in it."""
    admin = create_engine(make_engine(embedded.database_url).url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("drop database if exists fresh with (force)"))
        connection.execute(text("create database fresh"))
    engine = make_engine(embedded.database_url.replace("/postgres?", "/fresh?"))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("drop database fresh with (force)"))
    admin.dispose()


def alembic(engine: Engine, verb, *arguments: str) -> None:
    config = migrations.alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        verb(config, *arguments)


def test_upgrade_from_nothing_matches_the_models_and_downgrade_takes_all_away(fresh):
    with pytest.raises(MigrationsPending, match="paceline db upgrade"):
        migrations.check_migrated(fresh)
    migrations.upgrade(fresh)
    migrations.check_migrated(fresh)
    alembic(fresh, command.check)
    alembic(fresh, command.downgrade, "base")
    assert set(inspect(fresh).get_table_names(schema=SCHEMA)) == {"alembic_version"}
    migrations.upgrade(fresh)


def test_a_role_that_owns_the_schema_alone_is_enough(fresh, embedded):
    """The rights of docs/operations.md, section Rights."""
    with fresh.begin() as connection:
        connection.execute(text("create role owner_alone login password 'word'"))
        connection.execute(text("create schema paceline authorization owner_alone"))
    url = as_role(embedded.database_url.replace("/postgres?", "/fresh?"), "owner_alone", "word")
    engine = make_engine(url)
    try:
        migrations.upgrade(engine)
        kept = partitions.keep(engine, utcnow(), ZoneInfo("UTC"), 1)
        assert kept
        proofs.prove_postgres(engine)
    finally:
        engine.dispose()
        with fresh.begin() as connection:
            connection.execute(text("drop owned by owner_alone cascade"))
            connection.execute(text("drop role owner_alone"))


def test_other_tables_of_the_database_are_left_alone(fresh):
    with fresh.begin() as connection:
        connection.execute(text("create table public.agents (id int primary key, name text)"))
        connection.execute(text("insert into public.agents values (1, 'theirs')"))
    migrations.upgrade(fresh)
    alembic(fresh, command.check)
    with fresh.connect() as connection:
        assert connection.execute(text("select * from public.agents")).all() == [(1, "theirs")]
        assert inspect(connection).get_table_names(schema="public") == ["agents"]


def test_two_migrators_at_once_do_it_once(fresh, embedded):
    env = {
        **os.environ,
        "DATABASE_URL": embedded.database_url.replace("/postgres?", "/fresh?"),
        "REDIS_URL": embedded.redis_url,
    }
    command_line = [sys.executable, "-m", "app.cli", "db", "upgrade"]
    programs = [subprocess.Popen(command_line, env=env, stderr=subprocess.PIPE) for _ in range(3)]
    said = [program.communicate(timeout=180)[1] for program in programs]
    assert [program.returncode for program in programs] == [0, 0, 0], said
    migrations.check_migrated(fresh)


@pytest.mark.plan(26)
def test_ledger_has_the_promised_columns(fresh):
    migrations.upgrade(fresh)
    columns = {c["name"]: str(c["type"]) for c in inspect(fresh).get_columns("ai_request_log", SCHEMA)}
    promised = {
        "id": "UUID",
        "agent_id": "UUID",
        "request_type": "TEXT",
        "tokens_used": "INTEGER",
        "created_at": "TIMESTAMP",
    }
    assert promised.items() <= columns.items()
    assert len(inspect(fresh).get_indexes("ai_request_log", SCHEMA)) + 1 <= 3
