"""Behind a transaction pooler: PgBouncer, where each transaction may meet another server connection."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, func, make_url, select, text
from sqlalchemy.exc import OperationalError

from app.cli.doctor_database import _pooler
from app.cli.parts import free_port
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded.postgres import _unprivileged
from app.models import Call, Run
from app.runs.execute import execute
from app.wiring import build
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

UNPACKED = Path(sys.prefix) / "pgbouncer"
THREADS, RUNS = 8, 40
CONFIG = """[databases]
postgres = host={host} dbname=postgres user=postgres password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture(scope="module")
def pooler(embedded):
    """The address of PgBouncer before the embedded PostgreSQL, without anything that says what it is."""
    program = shutil.which("pgbouncer") or UNPACKED / "usr" / "sbin" / "pgbouncer"
    if not Path(program).exists():
        pytest.skip("no PgBouncer: `make tools`, on Debian")
    given, port = make_url(embedded.database_url), free_port()
    host = given.query["host"]
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        folder = Path(name)
        copy = shutil.copy(program, folder / "pgbouncer")  # .venv may be nobody else's to read
        libraries = [shutil.copy(path, folder) for path in UNPACKED.glob("usr/lib/*/lib*.so*")]
        (folder / "ini").write_text(CONFIG.format(host=host, port=port, password=given.password))
        if os.geteuid() == 0:  # which PgBouncer refuses to run as
            folder.chmod(0o755)
            os.chown(folder, 65534, 65534)
        env = {**os.environ, **({"LD_LIBRARY_PATH": name} if libraries else {})}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*_unprivileged(folder), str(copy), str(folder / "ini")], env=env, stdout=log, stderr=log
            )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        wait_for(url, folder / "log")
        yield url
        process.terminate()
        process.wait(20)


def wait_for(url, log):
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    deadline = monotonic() + 20
    while True:
        try:
            with engine.connect():
                break
        except OperationalError:
            assert monotonic() < deadline, log.read_text()
            sleep(0.1)
    engine.dispose()


def test_fleet_takes_its_turns_through_a_transaction_pooler(pooler, engine, redis, embedded, sandbox, home):
    settings = make_settings(
        embedded, sandbox.url, home, limits={"rate": 500, "burst": 100}, worker={"threads": THREADS}
    )
    services = build(settings.model_copy(update={"database_url": SecretStr(f"{pooler}?pooler=transaction")}))
    with services.engine.begin() as connection:
        runs = [make_run(connection, agent) for agent in make_agents(connection, RUNS)]
    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(lambda run: execute(services, run), runs))
    assert {outcome.state for outcome in outcomes} == {"completed"}
    with services.engine.connect() as connection:
        assert connection.execute(select(func.count()).where(Run.state == "completed")).scalar_one() == RUNS
        assert connection.execute(select(func.count()).where(Call.status != "ok")).scalar_one() == 0
    services.close()


def test_times_are_utc_and_nothing_is_prepared_behind_it(pooler, engine):
    behind = make_engine(f"{pooler}?pooler=transaction")

    def work(_):
        with behind.connect() as connection:
            connection.execute(text("set local timezone = 'Asia/Tokyo'"))
            at = connection.execute(text("select timestamptz '2026-01-01 00:00+00'")).scalar_one()
        return at

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(200)))
    assert {(at, at.tzinfo) for at in found} == {(datetime(2026, 1, 1, tzinfo=UTC), UTC)}
    behind.dispose()


def test_doctor_finds_a_pooler_that_nobody_named(pooler, embedded):
    unnamed, named = make_engine(pooler), make_engine(f"{pooler}?pooler=transaction")
    direct = make_engine(embedded.database_url)
    busy = threading.Event()

    def keep_busy():
        other = make_engine(f"{pooler}?pooler=transaction")
        while not busy.is_set():
            with other.connect() as connection:
                connection.execute(text("select pg_sleep(0.002)"))
        other.dispose()

    others = [threading.Thread(target=keep_busy) for _ in range(3)]
    for thread in others:
        thread.start()
    found = [finding for _ in range(20) for finding in _pooler(unnamed)]
    quiet = [finding for _ in range(5) for finding in _pooler(named)]
    busy.set()
    for thread in others:
        thread.join(10)
    assert {finding.check for finding in found} == {"pooler"}
    assert "?pooler=transaction" in found[0].mend
    assert not quiet
    assert not _pooler(direct)
    for made in (unnamed, named, direct):
        made.dispose()
