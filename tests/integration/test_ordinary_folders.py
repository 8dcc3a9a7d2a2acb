"""The servers start where people are: in folders with a space, a comma, a percent sign, a long name."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app import migrations
from app.db import make_engine
from app.embedded import postgres, servers
from app.embedded.process import alive_as
from app.errors import Unreachable
from app.redis_client import check_redis, make_redis
from tests.support.program import processes_of

NAMES = ["with space", "plus+dir", "comma,dir", "pct%41", "quote'\"dir", "übung", "back\\slash", "x" * 120]


@pytest.mark.parametrize("name", NAMES)
def test_servers_run_in_a_folder_with_any_name_and_leave_nothing(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with servers(home) as started:
        assert started.database_url
        assert started.redis_url
        engine = make_engine(started.database_url)
        migrations.upgrade(engine)
        assert not migrations.pending(engine)
        engine.dispose()
        client = make_redis(started.redis_url)
        check_redis(client)
        client.close()
        noted = home / "postgres" / "socket"
        short = Path(noted.read_text()) if noted.exists() else None
        if short:
            assert short.stat().st_mode & 0o777 == 0o700, "nobody else may enter"
    assert processes_of(home) == []
    assert short is None or not short.exists()


def test_a_pid_that_is_another_programs_by_now_does_not_keep_postgres_from_starting(tmp_path) -> None:
    with servers(tmp_path / "h", valkey=False):
        pass
    data = tmp_path / "h" / "postgres" / "data"
    # As after a crash in a container: the file names a process that lives and is something else.
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n0\n5432\n{data}\n\n0 0\nready\n")
    with servers(tmp_path / "h", valkey=False) as started:
        psycopg.connect(started.database_url).close()


def test_a_planted_folder_or_link_is_not_taken_for_the_sockets_place(tmp_path: Path) -> None:
    home = tmp_path / "a,b"
    with servers(home, valkey=False):
        pass
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    planted = tmp_path / "planted"
    planted.symlink_to(victim)
    (home / "postgres" / "socket").write_text(str(planted))
    before = victim.stat()
    with servers(home, valkey=False):
        assert Path((home / "postgres" / "socket").read_text()) != planted
    after = victim.stat()
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)
    assert planted.is_symlink()


def test_a_start_that_fails_stops_what_it_started(tmp_path: Path, monkeypatch) -> None:
    def refuse(_: Path) -> str:
        raise Unreachable("no Valkey today")

    monkeypatch.setattr("app.embedded.valkey_server.start", refuse)
    with pytest.raises(Unreachable), servers(tmp_path / "h"):
        pass
    assert processes_of(tmp_path / "h") == []
    assert not postgres.is_alive(tmp_path / "h" / "postgres")


def test_a_process_of_another_folder_is_not_stopped(tmp_path: Path) -> None:
    """A postmaster.pid that names somebody else's PostgreSQL."""
    with servers(tmp_path / "one", valkey=False):
        pid = int((tmp_path / "one" / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        with servers(tmp_path / "two", valkey=False):
            pass
        other = tmp_path / "two" / "postgres" / "data" / "postmaster.pid"
        other.write_text(f"{pid}\n")
        postgres.stop(tmp_path / "two" / "postgres")
        assert alive_as(pid, "postgres")


def test_an_ipv6_address_is_a_link_that_works(monkeypatch) -> None:
    from app.settings import WebSettings  # noqa: PLC0415

    assert WebSettings(host="::1", port=8000).url == "http://[::1]:8000"
    assert socket.getaddrinfo("::1", 8000)


@pytest.mark.long
def test_wheel_holds_all_that_the_program_needs(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--wheel-dir",
            str(tmp_path),
            str(root),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed here"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--disable-pip-version-check",
            "--target",
            str(target),
            str(wheel),
        ],
        check=True,
    )
    empty = tmp_path / "empty folder"
    empty.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PACELINE_", "LOVABLE"))}
    ran = subprocess.run(
        [sys.executable, "-m", "app.cli", "up", "--for", "8", "--json", "--no-web", "--no-flower"],
        cwd=empty,
        env={**env, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert '"agents": 100' in ran.stdout
    assert "imported 100 examples" in ran.stderr
    assert processes_of(empty) == []
