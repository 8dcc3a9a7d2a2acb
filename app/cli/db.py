"""`paceline db`: the database schema."""

import typer
from sqlalchemy import Engine

from app import controls, migrations
from app.admission import limits
from app.cli.connect import database
from app.cli.output import notes, progress
from app.db import check_database, make_engine
from app.settings import Settings, get_settings
from app.usage import rollups, zones
from app.wiring import find_addresses

app = typer.Typer(help="The database schema.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("upgrade")
def upgrade() -> None:
    """Bring the schema to what this program needs. Safe to repeat and to run twice at once."""
    engine = make_engine(find_addresses(get_settings()).database_url)
    check_database(engine)
    was_pending = migrations.pending(engine)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        limits.follow_settings(connection, get_settings().limits)
        controls.follow_settings(connection, get_settings().controls)
    follow_zone(engine, get_settings())
    engine.dispose()
    notes.print("schema upgraded" if was_pending else "schema is current")


@app.command("rezone")
def rezone() -> None:
    """Sum the usage up anew by the days of PACELINE_TIMEZONE, after it was changed. Stop the fleet before.

    `paceline up` and `paceline db upgrade` do it by themselves.
    """
    settings = get_settings()
    with database(settings) as engine:
        if not follow_zone(engine, settings):
            notes.print(f"usage is summed up by the days of {settings.timezone} already")


def follow_zone(engine: Engine, settings: Settings) -> bool:
    """Sum the usage up by the days of the zone that is set; whether that was needed."""
    with engine.connect() as connection:
        known = zones.read_zone(connection)
    if known is None or known == settings.timezone:
        return False
    notes.print(f"the time zone was {known}: summing the usage up by the days of {settings.timezone} ...")
    with progress("days", 100) as tell:
        zones.rezone(engine, settings.zone, lambda done, whole: tell(100 * done // whole))
    with engine.begin() as connection:
        rollups.roll_up(connection, settings.zone)
    return True
