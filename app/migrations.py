"""The database schema against the one this program was written for."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from app.db import SCHEMA
from app.errors import MigrationsPending

HERE = Path(__file__).parent
SCRIPTS = next(
    folder for folder in (HERE.parent / "alembic", HERE / "bundled" / "alembic") if folder.is_dir()
)
"""Beside the program in a checkout, within it when it was installed from a wheel."""


def alembic_config() -> Config:
    """Alembic's configuration. Its file would read a percent sign in the folder's name as a variable."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Bring the schema to head."""
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def pending(engine: Engine) -> bool:
    """Whether the schema is not at head."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision() != head


def check_migrated(engine: Engine) -> None:
    """Raise MigrationsPending with the mend."""
    if pending(engine):
        raise MigrationsPending("the database schema is not current: run `paceline db upgrade`")
