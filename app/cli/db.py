"""`paceline db`: the database schema."""

import typer

from app import controls, migrations
from app.admission import limits
from app.cli.output import notes
from app.db import check_database, make_engine
from app.settings import get_settings
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
    engine.dispose()
    notes.print("schema upgraded" if was_pending else "schema is current")
