"""Servers of our own, started once; a clean database for each test that writes to it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from argon2 import PasswordHasher
from redis import Redis
from sqlalchemy import Connection, Engine, text

from app import migrations
from app.accounts import passwords
from app.db import SCHEMA, Base, make_engine
from app.embedded import Servers, servers
from app.embedded.postgres import admin_url
from app.redis_client import make_redis
from app.runs.services import Services
from app.settings import Settings
from app.wiring import build
from tests.support import reaper
from tests.support.sandbox import Sandboxes, SandboxServer, run_sandboxes

pytest_plugins = ["tests.support.record"]

for name in list(os.environ):
    if name.startswith("PACELINE_") or name in ("DATABASE_URL", "REDIS_URL", "LOVABLE_API_KEY"):
        del os.environ[name]


reaper.begin()

# A hash of a password takes 64 MiB and a tenth of a second by design; `test_who_tried` looks at the real one.
passwords._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)

# structlog's own default draws each traceback with all its variables: 40 ms for every error of a test.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, and mostly waits: the short tests fill the cores meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("acceptance") is None)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder with a short path, because a socket lives in it."""
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    folder.chmod(0o711)  # PgBouncer runs as nobody, and passes through
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def embedded(home: Path) -> Iterator[Servers]:
    """PostgreSQL and Valkey for the whole session."""
    with servers(home / "servers") as started:
        # Tests make roles and databases, and empty tables that take no change.
        yield replace(started, database_url=admin_url(home / "servers" / "postgres"))


@pytest.fixture(scope="session")
def migrated(embedded: Servers) -> Iterator[Engine]:
    """An engine on a database that Alembic made."""
    assert embedded.database_url
    engine = make_engine(embedded.database_url, pool_size=20)
    migrations.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(migrated: Engine) -> Iterator[Engine]:
    """For tests that commit: every table is empty before and after."""
    _empty(migrated)
    yield migrated
    _empty(migrated)


def _empty(engine: Engine) -> None:
    """Empty the tables that hold something. Few rows are sooner deleted than a table is truncated."""
    names = [f"{SCHEMA}.{table.name}" for table in Base.metadata.sorted_tables]
    asked = " union all ".join(f"(select '{name}' from {name} limit 1)" for name in names)
    with engine.begin() as connection:
        if full := connection.execute(text(asked)).scalars().all():
            # past the trigger that keeps the change log as it is, and past foreign keys
            connection.execute(text("set local session_replication_role = replica"))
            for name in full:
                connection.execute(text(f"delete from {name}"))


@pytest.fixture
def connection(migrated: Engine) -> Iterator[Connection]:
    """For tests in one transaction, which is rolled back."""
    with migrated.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


@pytest.fixture
def redis(embedded: Servers) -> Iterator[Redis]:
    """An empty Valkey."""
    assert embedded.redis_url
    client = make_redis(embedded.redis_url)
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture(scope="session")
def sandboxes() -> Iterator[Sandboxes]:
    """A server of sandbox gateways."""
    with run_sandboxes() as server:
        yield server


@pytest.fixture
def sandbox(sandboxes: Sandboxes) -> SandboxServer:
    """A sandbox gateway without a rate limit; a test that wants one sets it."""
    return sandboxes.another()


@pytest.fixture
def services(
    engine: Engine, redis: Redis, embedded: Servers, sandbox: SandboxServer, home: Path
) -> Iterator[Services]:
    """Everything a worker has, with a cap that no test reaches by accident."""
    built = build(make_settings(embedded, sandbox.url, home))
    yield built
    built.close()


def make_settings(embedded: Servers, gateway_url: str, home: Path, **groups: object) -> Settings:
    """Settings for a test; groups are given as dictionaries."""
    values: dict[str, object] = {
        "DATABASE_URL": embedded.database_url,
        "REDIS_URL": embedded.redis_url,
        "home": home,
        "limits": {"rate": 1000, "burst": 100},
    } | groups
    gateway = {"base_url": gateway_url, "read_timeout_s": 2, "total_timeout_s": 3}
    values["gateway"] = gateway | dict(values.get("gateway", {}))  # type: ignore[call-overload]
    return Settings.model_validate(values)
