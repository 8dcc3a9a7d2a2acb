"""Recovery with the settings as they come: after a worker's death in 45 s, after a server's in 10."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from kombu import Queue
from sqlalchemy import func, select

from app import migrations
from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import revive, servers
from app.embedded.postgres import admin_url
from app.models import Call, Post, Run
from app.redis_client import make_redis
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

from app.wiring import build  # isort: skip

pytestmark = pytest.mark.acceptance


def start_worker(env, log, name="worker@test"):
    command = [
        sys.executable,
        "-m",
        "celery",
        "--app",
        "workers",
        "--quiet",
        "worker",
        "--without-gossip",
        "--without-mingle",
        "--loglevel=WARNING",
        f"--hostname={name}",
    ]
    return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def wait_for(engine, query, value, seconds):
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        with engine.connect() as connection:
            if connection.execute(query).scalar_one() == value:
                return
        sleep(0.2)
    raise AssertionError(f"not {value} within {seconds} s")


def test_killed_workers_runs_are_resumed_within_45_seconds(engine, redis, embedded, sandbox, home, tmp_path):
    sandbox.state.rules.latency_s = 3.0
    env = {
        **os.environ,
        "DATABASE_URL": embedded.database_url,
        "REDIS_URL": embedded.redis_url,
        "PACELINE_HOME": str(tmp_path),
        "PACELINE_GATEWAY__BASE_URL": sandbox.url,
        "PACELINE_LIMITS__RATE": "100",
    }
    services = build(make_settings(embedded, sandbox.url, home, limits={"rate": 100}))
    with engine.begin() as connection:
        for agent in make_agents(connection, 5):
            make_run(connection, agent)
    beat_command = [sys.executable, "-m", "celery", "--app", "workers", "--quiet", "beat"]
    with (tmp_path / "log").open("w") as log:
        beat = subprocess.Popen(beat_command, env=env, stdout=log, stderr=log)
        first = start_worker(env, log)
        second = None
        try:
            # Their messages were never published: the rescue tells the workers of them. Late in a
            # cycle beat opens runs too, so what counts is what was under way at the kill.
            # A run of beat's may end with its cycle; one that was asked for does not.
            asked_for = select(Run.id).where(Run.cycle_at.is_(None))
            under_way = (Call.status == "in_flight", Call.run_id.in_(asked_for))
            in_flight = select(func.count()).where(*under_way)
            wait_for(engine, select(in_flight.scalar_subquery() >= 2), True, 60)
            os.killpg(first.pid, signal.SIGKILL)
            killed = monotonic()
            sleep(1)  # what it had sent last still reaches PostgreSQL, and may close a call
            with engine.connect() as connection:
                killed_at = connection.execute(select(func.now())).scalar_one() - timedelta(seconds=1)
                cut = select(Call.run_id).where(*under_way)
                runs = set(connection.execute(cut).scalars())
            assert runs
            second = start_worker(env, log)
            ended = select(func.count()).where(Run.id.in_(runs), Run.state == "completed")
            wait_for(engine, ended, len(runs), 70)
            with engine.connect() as connection:
                taken = select(func.max(Run.attempt), func.min(Run.attempt), func.min(Run.losses))
                assert connection.execute(taken.where(Run.id.in_(runs))).one() == (2, 2, 1)
                posts = select(func.count()).where(Post.run_id.in_(runs)).group_by(Post.run_id)
                assert set(connection.execute(posts).scalars()) <= {1}
                # The same step, or another: its agent may have been welcomed by a run beside it.
                again = (
                    select(func.min(Call.created_at))
                    .where(Call.run_id.in_(runs), Call.created_at > killed_at)
                    .group_by(Call.run_id)
                )
                resumed = connection.execute(again).scalars().all()
            assert len(resumed) == len(runs), "each broken run called once more"
            assert max(resumed) - killed_at <= timedelta(seconds=45)
            assert monotonic() - killed < 70
        finally:
            for process in (beat, first, second):
                if process is not None:
                    process.kill()
                    process.wait()
            services.close()


@pytest.mark.long
def test_worker_and_beat_touch_their_file_from_their_loops(engine, redis, embedded, sandbox, tmp_path):
    env = {
        **os.environ,
        "DATABASE_URL": embedded.database_url,
        "REDIS_URL": embedded.redis_url,
        "PACELINE_HOME": str(tmp_path),
        "PACELINE_GATEWAY__BASE_URL": sandbox.url,
    }
    files = {name: tmp_path / name for name in ("worker", "beat")}
    own = {name: {**env, "PACELINE_WORKER__HEARTBEAT_FILE": str(file)} for name, file in files.items()}
    beat = [sys.executable, "-m", "celery", "--app", "workers", "--quiet", "beat"]
    with (tmp_path / "log").open("w") as log:
        processes = [
            start_worker(own["worker"], log),
            subprocess.Popen(beat, env=own["beat"], stdout=log, stderr=log),
        ]
        try:
            for file in files.values():
                wait_until(file.exists, 30)
                before = file.stat().st_mtime
                wait_until(lambda f=file, t=before: f.stat().st_mtime > t, 15)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def wait_until(is_so, seconds):
    deadline = monotonic() + seconds
    while not is_so():
        assert monotonic() < deadline, f"not within {seconds} s"
        sleep(0.2)


PID_FILES = {"postgres": "postgres/data/postmaster.pid", "valkey": "valkey/pid"}


def kill(server):
    def begin(home, _):
        os.kill(int((home / PID_FILES[server]).read_text().split()[0]), signal.SIGKILL)

    return begin, revive


def ask_redis(*command):
    def ask(_, started):
        client = make_redis(started.redis_url)
        client.execute_command(*command)
        client.close()

    return ask


def ask_postgres(is_read_only):
    def ask(home, _):
        with psycopg.connect(admin_url(home / "postgres"), autocommit=True) as connection:
            connection.execute("set transaction_read_only = off")
            connection.execute(f"alter system set default_transaction_read_only = {is_read_only}")
            connection.execute("select pg_reload_conf()")

    return ask


FAULTS = {
    "valkey killed": kill("valkey"),
    "postgres killed": kill("postgres"),
    "redis out of memory": (
        ask_redis("CONFIG", "SET", "maxmemory", "500kb"),
        ask_redis("CONFIG", "SET", "maxmemory", "0"),
    ),
    "redis a replica": (ask_redis("REPLICAOF", "127.0.0.1", "1"), ask_redis("REPLICAOF", "NO", "ONE")),
    "postgres read-only": (ask_postgres("on"), ask_postgres("off")),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_all_workers_consume_within_10_seconds_after_a_fault_of_a_server(fault, sandbox, tmp_path):
    """The server is away, or answers with errors, for 5 s; then every worker must begin runs soon, and none
    has ended.
    """
    sandbox.state.rules.latency_s = 1.0
    home = Path(tempfile.mkdtemp(prefix="pl-"))
    processes = []
    try:
        with servers(home / "servers") as started, (tmp_path / "log").open("w") as log:
            engine = make_engine(started.database_url)
            migrations.upgrade(engine)
            with engine.begin() as connection:
                make_agents(connection, 40)
            env = {
                **os.environ,
                "DATABASE_URL": started.database_url,
                "REDIS_URL": started.redis_url,
                "PACELINE_HOME": str(home),
                "PACELINE_GATEWAY__BASE_URL": sandbox.url,
                "PACELINE_LIMITS__RATE": "1000",
                "PACELINE_LIMITS__BURST": "100",
            }
            processes += [start_worker(env, log, f"w{n}@test") for n in range(3)]
            celery = Celery("test", broker=started.redis_url)
            celery.conf.update(
                task_queues=[Queue("adhoc")],
                task_ignore_result=True,
                broker_transport_options={"global_keyprefix": "paceline:"},
            )
            everybody = {"w0@test", "w1@test", "w2@test"}
            assert seen_at_work(celery, engine, everybody, 60) == everybody
            begin, end = FAULTS[fault]
            begin(home / "servers", started)
            sleep(5)
            end(home / "servers", started)
            back = monotonic()
            assert seen_at_work(celery, engine, everybody, 60) == everybody
            assert monotonic() - back <= 10
            assert [process.poll() for process in processes] == [None] * 3, "nobody ended"
            engine.dispose()
            celery.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(home)


def seen_at_work(celery, engine, everybody, seconds):
    """Ask for runs until each of these workers began one; returns who did."""
    mine, number, deadline = [], 0, monotonic() + seconds
    while monotonic() < deadline:
        for _ in range(12):  # more than one worker begins in a moment
            mine.append(uuid4())
            number += 1
            celery.send_task("agents.run", (f"a{number % 40}", None), task_id=str(mine[-1]), queue="adhoc")
        sleep(0.5)
        with engine.connect() as connection:
            query = select(Run.worker).where(Run.id.in_(mine), Run.worker.is_not(None)).distinct()
            seen = set(connection.execute(query).scalars())
        if seen >= everybody:
            return seen
    return set()
