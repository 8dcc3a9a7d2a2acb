"""`paceline agents take-over`: agents of the application that ran before."""

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.agents import old_system
from app.cli.connect import database
from app.cli.output import data, notes, print_json
from app.db import check_database, make_engine
from app.errors import PacelineError
from app.settings import get_settings

SETTING = "SOURCE_DATABASE_URL"


def take_over(
    url: Annotated[str, typer.Option(envvar=SETTING, help="The old system's database; it is only read")],
    schema: Annotated[str, typer.Option(help="Schema of the old tables")] = "public",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Take agents, communities and styles over from the application that ran before (Supabase)."""
    source = make_engine(url, setting=SETTING)
    try:
        check_database(source, SETTING)
        with source.connect() as connection:
            found = old_system.read_old_system(connection, schema)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise PacelineError(f"the old system's tables cannot be read: {reason}") from None
    finally:
        source.dispose()
    with database(get_settings()) as engine, engine.connect() as connection:
        done = old_system.take_over(connection, found)
        if not dry_run:
            connection.commit()
    if as_json:
        problems = {"problems": found.problems, "left": old_system.LEFT, "running_jobs": found.running_jobs}
        print_json({"dry_run": dry_run, **asdict(done), **problems})
        return
    data.print(
        ("would be: " if dry_run else "")
        + f"{done.created} created, {done.updated} updated, {done.unchanged} unchanged; "
        f"{done.communities} communities, {done.styles} styles"
    )
    for problem in found.problems:
        notes.print(f"not taken: {problem}", style="red", markup=False)
    for left in old_system.LEFT:
        notes.print(f"not taken: {left}", markup=False)
    for job in found.running_jobs:
        notes.print(
            f"its job {job} still runs, so both systems would post: select cron.unschedule('{job}')",
            style="yellow",
            markup=False,
        )
