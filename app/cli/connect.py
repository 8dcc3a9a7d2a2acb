"""Opening the database for a command that needs nothing else, and what actions need beside it."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from app.actions import Desk, Who
from app.db import check_database, make_engine
from app.migrations import check_migrated
from app.redis_client import make_redis
from app.settings import Settings
from app.wiring import build_admission, find_addresses


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    """A database that answers and has the current schema, or an error that says what to do."""
    engine = make_engine(find_addresses(settings).database_url)
    try:
        check_database(engine)
        check_migrated(engine)
        yield engine
    finally:
        engine.dispose()


def desk(settings: Settings, engine: Engine) -> Desk:
    """Everything that actions work with; Redis is asked only by those that need it."""
    addresses = find_addresses(settings)
    redis = make_redis(addresses.redis_url)
    return Desk(settings, engine, build_admission(settings, engine, redis, addresses.gateway_url))


def me(reason: str) -> Who:
    """Return the person who types the command, and why."""
    return Who(user(), reason)


def user() -> str:
    """Return the name of the person who types the command, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
