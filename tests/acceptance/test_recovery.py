"""A worker is killed with the settings as they come: its runs go on within 45 seconds."""

import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import func, select

from app.clock import monotonic, sleep
from app.models import Call, Post, Run
from tests.conftest import make_settings
from tests.support.factories import make_agents, make_run

from app.wiring import build  # isort: skip

pytestmark = pytest.mark.acceptance


def start_worker(env, log):
    command = [sys.executable, "-m", "celery", "--app", "workers", "--quiet", "worker",
               "--without-gossip", "--without-mingle", "--loglevel=WARNING"]  # fmt: skip
    return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def wait_for(engine, query, value, seconds):
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        with engine.connect() as connection:
            if connection.execute(query).scalar_one() == value:
                return
        sleep(0.2)
    raise AssertionError(f"not {value} within {seconds} s")


def test_killed_workers_runs_are_resumed_within_45_seconds(
    engine, redis, embedded, sandbox, home, tmp_path
):
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
        runs = [make_run(connection, agent) for agent in make_agents(connection, 5)]
    beat_command = [sys.executable, "-m", "celery", "--app", "workers", "--quiet", "beat"]
    with (tmp_path / "log").open("w") as log:
        beat = subprocess.Popen(beat_command, env=env, stdout=log, stderr=log)
        first = start_worker(env, log)
        second = None
        try:
            # Their messages were never published: the rescue tells the workers of them.
            in_flight = select(func.count()).where(Call.status == "in_flight")
            wait_for(engine, in_flight, 5, 60)
            os.killpg(first.pid, signal.SIGKILL)
            killed = monotonic()
            second = start_worker(env, log)
            ended = select(func.count()).where(Run.id.in_(runs), Run.state == "completed")
            wait_for(engine, ended, 5, 70)
            with engine.connect() as connection:
                taken = select(func.max(Run.attempt), func.min(Run.attempt), func.min(Run.losses))
                assert connection.execute(taken.where(Run.id.in_(runs))).one() == (2, 2, 1)
                posts = select(func.count()).where(Post.run_id.in_(runs))
                assert connection.execute(posts).scalar_one() == 5
                again = select(func.max(Call.created_at) - func.min(Call.created_at))
                delay = connection.execute(
                    again.where(Call.step == "welcome", Call.run_id.in_(runs))
                ).scalar_one()
            assert delay.total_seconds() <= 45 + 10, "call to call; the kill came a moment later"
            assert monotonic() - killed < 70
        finally:
            for process in (beat, first, second):
                if process is not None:
                    process.kill()
                    process.wait()
            services.close()
