"""Opening the database for a command that needs nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from app.db import check_database, make_engine
from app.migrations import check_migrated
from app.settings import Settings
from app.wiring import find_addresses


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
