"""The database schema against the one this program was written for.

Every command asks whether it is current, so Alembic is imported only where something is migrated.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

if TYPE_CHECKING:
    from alembic.config import Config

from app.db import SCHEMA
from app.errors import MigrationsPending

HERE = Path(__file__).parent
SCRIPTS = next(
    folder for folder in (HERE.parent / "alembic", HERE / "bundled" / "alembic") if folder.is_dir()
)
"""Beside the program in a checkout, within it when it was installed from a wheel."""


def alembic_config() -> "Config":
    """Alembic's configuration. Its file would read a percent sign in the folder's name as a variable."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Bring the schema to head."""
    from alembic import command  # noqa: PLC0415

    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def pending(engine: Engine) -> bool:
    """Whether the schema is not at head."""
    table = f"{SCHEMA}.alembic_version"
    with engine.connect() as connection:
        there = connection.execute(text("select to_regclass(:table)"), {"table": table})
        if there.scalar_one() is None:
            return True
        return connection.execute(text(f"select version_num from {table}")).scalars().all() != [head()]


def head() -> str:
    """The newest revision: the number in the names of the migrations, which stand in one line."""
    names = (path.name for path in (SCRIPTS / "versions").glob("*.py"))
    return max(found[1] for name in names if (found := re.search(r"_(\d{4})_", name)))


def check_migrated(engine: Engine) -> None:
    """Raise MigrationsPending with the mend."""
    if pending(engine):
        raise MigrationsPending("the database schema is not current: run `paceline db upgrade`")
