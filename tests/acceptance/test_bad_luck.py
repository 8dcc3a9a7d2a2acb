"""Bad input and bad luck: one clear line that says what to do, a documented exit code, no traceback."""

import json
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.parts import free_port
from app.embedded import running
from tests.support.program import PACELINE, clean_env, get, paceline, processes_of, sandbox_process, wait_for

pytestmark = pytest.mark.acceptance


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        yield Path(name)


def says(ended: "subprocess.CompletedProcess[str]", code: int, pattern: str) -> None:
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.strip().splitlines()[-1:]
    assert re.search(pattern, line), ended.stderr
    assert ended.returncode == code


def test_unknown_setting(folder):
    ended = paceline("up", cwd=folder, PACELINE_LIMITS__RAET="4")
    says(ended, 2, "unknown setting PACELINE_LIMITS__RAET: did you mean PACELINE_LIMITS__RATE")


def test_port_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        says(paceline("up", cwd=folder, PACELINE_WEB__PORT=port), 1, "PACELINE_WEB__PORT.*--no-web")
        ended = paceline("up", "--no-web", cwd=folder, PACELINE_FLOWER__PORT=port)
        says(ended, 1, "PACELINE_FLOWER__PORT.*--no-flower")
        says(paceline("sandbox", "--port", port, cwd=folder), 1, "choose another --port")
    assert not (folder / ".paceline").exists()


def test_postgres_unreachable(folder, embedded):
    dead = f"postgres://me:secret@127.0.0.1:{free_port()}/db"
    ended = paceline("status", cwd=folder, DATABASE_URL=dead, REDIS_URL=embedded.redis_url)
    says(ended, 75, "PostgreSQL does not answer .*start it, or correct DATABASE_URL; it was asked at ")
    assert "secret" not in ended.stderr


def test_redis_unreachable(folder, embedded):
    dead = f"redis://:secret@127.0.0.1:{free_port()}/0"
    ended = paceline("up", "--no-web", "--no-flower", cwd=folder, REDIS_URL=dead)
    says(ended, 75, "Redis does not answer at .*start it, or correct REDIS_URL")
    assert "secret" not in ended.stderr


def test_not_postgres(folder, embedded):
    ended = paceline("status", cwd=folder, DATABASE_URL="mysql://x/y", REDIS_URL=embedded.redis_url)
    says(ended, 2, "DATABASE_URL must be postgresql://.*, not mysql")


def test_nothing_runs_here(folder):
    says(paceline("status", cwd=folder), 2, "DATABASE_URL is not set and no `paceline up` runs")


@pytest.fixture
def unmigrated(embedded) -> str:
    return embedded.database_url.replace("/postgres?", "/template1?")


def test_migrations_pending(folder, embedded, unmigrated):
    ended = paceline("agents", "list", cwd=folder, DATABASE_URL=unmigrated, REDIS_URL=embedded.redis_url)
    says(ended, 3, "run `paceline db upgrade`")


@pytest.mark.parametrize("part", ["worker", "beat"])
def test_celery_started_without_servers_says_so_in_one_line(folder, part):
    ended = subprocess.run(
        [*PACELINE[:1], "-m", "celery", "-A", "workers", part],
        cwd=folder,
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    says(ended, 1, "DATABASE_URL is not set and no `paceline up` runs")


def test_worker_refuses_a_schema_that_is_not_current(folder, embedded, unmigrated):
    env = {"DATABASE_URL": unmigrated, "REDIS_URL": embedded.redis_url}
    ended = subprocess.run(
        [*PACELINE[:1], "-m", "celery", "-A", "workers", "worker"],
        cwd=folder,
        text=True,
        env=clean_env(**env, PACELINE_GATEWAY__BASE_URL="http://127.0.0.1:9/v1"),
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert "run `paceline db upgrade`" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 3


def test_doctor_names_what_is_missing(folder):
    ended = paceline("doctor", cwd=folder)
    assert ended.returncode == 1
    assert "start `make up` there, or set DATABASE_URL" in ended.stdout


HEADER = "handle,display_name,community,persona\n"


def test_bad_roster_imports_nothing_and_lists_lines(folder, engine, embedded):
    env = {"DATABASE_URL": embedded.database_url, "REDIS_URL": embedded.redis_url}
    file = folder / "roster.csv"
    file.write_text(HEADER + "ada,Ada,C,P\nada,Again,C,P\nbob,Bob,C," + "x" * 10_000_000 + "\n")
    ended = paceline("agents", "import", str(file), cwd=folder, **env)
    says(ended, 1, r"2 bad lines in .*, nothing imported \(--partial imports the good ones\)")
    assert "line 3: handle ada is already on line 2" in ended.stderr
    assert "line 4: persona has 10,000,000 characters" in ended.stderr
    listed = json.loads(paceline("agents", "list", "--json", cwd=folder, **env).stdout)
    assert listed["total"] == 0
    ended = paceline("agents", "import", "--partial", "--json", str(file), cwd=folder, **env)
    assert ended.returncode == 0
    done = json.loads(ended.stdout)
    assert (done["created"], [problem["line"] for problem in done["problems"]]) == (1, [3, 4])
    says(paceline("agents", "import", "missing.csv", cwd=folder, **env), 4, "cannot read missing.csv")


def test_dispatch_of_an_unknown_agent(folder, engine, embedded):
    env = {"DATABASE_URL": embedded.database_url, "REDIS_URL": embedded.redis_url}
    says(paceline("dispatch", "nobody", cwd=folder, **env), 4, "unknown agent 'nobody'")


@pytest.mark.long
def test_ctrl_c_drains_and_a_second_start_is_clean(folder):
    """SIGINT in the middle of work: nothing is left in flight, no process stays, the next start goes on."""
    with sandbox_process("--latency", "1", cwd=folder) as gateway:
        env = {"PACELINE_CYCLE__PERIOD_S": "20", "PACELINE_GATEWAY__BASE_URL": f"{gateway}/v1"}
        command = [*PACELINE, "up", "--no-web", "--no-flower", "--json"]
        with subprocess.Popen(
            command,
            cwd=folder,
            env=clean_env(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            wait_for(lambda: '"200"' in get(f"{gateway}/sandbox/tally").text, 60, "a first call")
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=100)
        assert program.returncode == 0, err
        summary = json.loads(out)
        assert summary["calls"]["in_flight"] == 0
        assert summary["runs"].get("running", 0) == 0
        assert summary["killed"] == []
        assert running(folder / ".paceline").database_url is None
        assert [words for words in processes_of(folder) if "sandbox" not in words] == []
        again = paceline(*command[len(PACELINE) :], "--for", "6", cwd=folder, timeout=150, **env)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["open_runs"] == 0
    assert "migrating" not in again.stderr
    assert "imported" not in again.stderr


@pytest.mark.long
def test_wrong_key_stops_calls_and_names_the_setting(folder):
    with sandbox_process("--key", "right", cwd=folder) as gateway:
        ended = paceline(
            "up",
            "--for",
            "12",
            "--no-web",
            "--no-flower",
            "--workers",
            "1",
            "--json",
            cwd=folder,
            timeout=150,
            PACELINE_CYCLE__PERIOD_S="20",
            PACELINE_GATEWAY__BASE_URL=f"{gateway}/v1",
            PACELINE_GATEWAY__API_KEY="wrong",
        )
        refused = get(f"{gateway}/sandbox/tally").json()["by_status"]
    assert "PACELINE_GATEWAY__API_KEY was refused" in ended.stderr
    assert refused.get("401", 0) <= 20
    assert "200" not in refused
