"""What operators do to `paceline up` and to Celery: close the terminal, kill, start it twice, revoke."""

import json
import os
import signal
import subprocess
import sys
from uuid import UUID

import pytest
from sqlalchemy import select

from app.clock import monotonic, sleep
from app.db import make_engine
from app.embedded import running
from app.models import Run
from app.runs import jobs
from tests.support.program import PACELINE, clean_env, paceline, processes_of, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.long]
QUIET = ("--no-web", "--no-flower")
FAST = {"PACELINE_CYCLE__PERIOD_S": "10", "PACELINE_CYCLE__SLICE_S": "1"}


def begin(folder, *arguments, **env):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*PACELINE, "up", *QUIET, *arguments],
        cwd=folder,
        env=clean_env(**FAST, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(folder, name="worker1"):
    return processes_named(folder, f"--hostname={name}@")


def processes_named(folder, text):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline") as file:
                    words = file.read()
                if text in words and "celery" in words and os.readlink(f"/proc/{entry}/cwd") == str(folder):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def test_a_worker_killed_again_and_again_does_not_end_up(tmp_path):
    folder = tmp_path / "a fleet"
    up = begin(folder, "--for", "45", "--workers", "2", "--json")
    try:
        wait_for(lambda: workers_of(folder), 40, "a worker")
        deadline, kills = monotonic() + 25, 0
        while monotonic() < deadline:
            for pid in workers_of(folder):
                os.kill(pid, signal.SIGKILL)
                kills += 1
            sleep(1)
        out, err = up.communicate(timeout=150)
    finally:
        up.kill()
        up.wait()
    assert kills >= 4
    assert up.returncode == 0, err[-500:]
    assert "worker1 was killed by signal 9: it is started again in 1 s" in err
    assert "it is started again in 8 s" in err, "it backs off"
    summary = json.loads(out)
    assert summary["open_runs"] == 0
    assert summary["runs"]["completed"] > 10, "the others went on"
    assert set(summary["restarts"]) == {"worker1"}, "nobody else died"
    assert processes_of(folder) == []


def test_a_beat_that_hangs_is_replaced_and_slices_are_opened_again(tmp_path):
    folder = tmp_path / "beat hangs"
    up = begin(folder, "--workers", "1", "--json")

    def silence_s():
        with engine.connect() as connection:
            return connection.execute(select(jobs.silence_s())).scalar_one()

    try:
        wait_for(lambda: processes_named(folder, "beat"), 60, "beat")
        engine = make_engine(running(folder / ".paceline").database_url)
        wait_for(lambda: silence_s() is not None, 60, "a slice")
        (hung,) = processes_named(folder, "beat")
        os.kill(hung, signal.SIGSTOP)
        wait_for(lambda: processes_named(folder, "beat") not in ([], [hung]), 90, "another beat")
        wait_for(lambda: silence_s() < 5, 60, "a slice that the other beat opens")
        engine.dispose()
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=150)
    finally:
        up.kill()
        up.communicate()
    assert "no slice was opened for too long: beat is replaced" in err
    assert processes_of(folder) == []


def test_a_closed_terminal_leaves_nothing_behind_and_a_second_up_is_told(tmp_path):
    folder = tmp_path / "home of it"
    up = begin(folder)
    try:
        wait_for(lambda: workers_of(folder), 60, "a worker")
        second = paceline("up", *QUIET, cwd=folder)
        assert second.returncode == 2
        assert f"already runs in {folder / '.paceline'}, pid {up.pid}" in second.stderr
        assert up.poll() is None
        up.stdout.close()
        up.stderr.close()
        os.kill(up.pid, signal.SIGHUP)
        up.wait(90)
        wait_for(lambda: not processes_of(folder), 20, "the end of all processes")
    finally:
        up.kill()
        up.wait()


def test_a_revoked_run_does_not_run_also_after_a_restart(tmp_path):
    folder = tmp_path / "revoke"
    up = begin(folder, "--workers", "1", PACELINE_SANDBOX__LATENCY_S="2")
    try:
        wait_for(lambda: workers_of(folder, "express"), 60, "a worker")
        servers = running(folder / ".paceline")
        paceline("pause", cwd=folder)  # so that the run snoozes instead of ending
        found = paceline("dispatch", "ada", "--json", cwd=folder)
        if found.returncode:
            handle = paceline("agents", "list", "--json", cwd=folder).stdout
            handle = handle.split('"handle": "')[1].split('"')[0]
            found = paceline("dispatch", handle, "--json", cwd=folder)
        run_id = UUID(found.stdout.split('"id": "')[1].split('"')[0])
        env = clean_env(DATABASE_URL=servers.database_url, REDIS_URL=servers.redis_url)
        engine = make_engine(servers.database_url)

        def state():
            with engine.connect() as connection:
                query = select(Run.state, Run.reason).where(Run.id == run_id)
                return connection.execute(query).one()

        wait_for(lambda: state()[0] == "snoozed", 30, "the run's snooze")
        subprocess.run(
            [sys.executable, "-m", "celery", "-A", "workers", "control", "revoke", str(run_id)],
            cwd=folder,
            env=env,
            check=True,
            capture_output=True,
            timeout=180,
        )
        wait_for(lambda: state()[0] == "skipped", 20, "the run's end")
        assert "revoked" in state()[1]
        for pid in [*workers_of(folder), *workers_of(folder, "express")]:
            os.kill(pid, signal.SIGKILL)
        paceline("resume", cwd=folder)
        sleep(12)
        assert state()[0] == "skipped"
        engine.dispose()
    finally:
        up.terminate()
        up.communicate(timeout=120)
    assert processes_of(folder) == []


def test_workers_are_seen_and_why_nothing_runs_is_said(tmp_path):
    folder = tmp_path / "nobody works"
    up = begin(folder, "--workers", "1", "--json", PACELINE_WORKER__THREADS="2")

    def announced() -> str:
        return paceline("workers", "--json", cwd=folder).stdout

    try:
        wait_for(lambda: "worker1@" in (said := announced()) and "express@" in said, 60, "both workers")
        found = json.loads(paceline("workers", "--json", cwd=folder).stdout)["workers"]
        assert {worker["name"].split("@")[0] for worker in found} == {"worker1", "express"}
        assert all(worker["version"] and worker["pid"] for worker in found)
    finally:
        up.send_signal(signal.SIGINT)
        out, _ = up.communicate(timeout=120)
    assert json.loads(out)["nothing_ran"] is None
    assert processes_of(folder) == []
