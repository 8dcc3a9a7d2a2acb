"""Embedded servers: private, shared by two programs, keeping their data, gone at the end."""

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from app.clock import monotonic, sleep
from app.embedded import Servers, running, servers
from app.embedded.postgres import admin_url


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        yield Path(folder) / "home"


def test_data_is_kept_between_runs_and_nothing_is_left_running(short):
    with servers(short) as first:
        assert running(short) == first
        with psycopg.connect(first.database_url) as connection:
            connection.execute("create table kept as select 42 as answer")
        Redis.from_url(first.redis_url).set("kept", "yes")
    assert running(short) == Servers()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first.database_url)
    with servers(short) as second:
        with psycopg.connect(second.database_url) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
        assert Redis.from_url(second.redis_url).get("kept") == b"yes"
        assert second == first  # a client that waits finds them where they were


def test_every_file_is_for_its_owner_alone(short):
    with servers(short) as started:
        for path in (short, *short.rglob("*")):
            if not path.is_symlink() and path.parent in (short.parent, short, *short.iterdir()):
                # For root others may pass through, and neither list nor read.
                others = 0o066 if path in (short, short / "postgres") else 0o077
                assert not stat.S_IMODE(path.stat().st_mode) & others, path
        assert stat.S_IMODE((short / "postgres" / "data").stat().st_mode) == 0o700
        with pytest.raises(Exception, match=r"invalid username-password"):
            Redis.from_url(started.redis_url.replace("//:", "//:wrong")).ping()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as nobody")
def test_another_process_of_the_servers_user_gets_in_nowhere(short):
    """It was a superuser by trust, with a capability that opens every file."""
    short.parent.chmod(0o711)
    with servers(short, valkey=False) as started:
        with psycopg.connect(started.database_url) as connection:
            status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
            asked = "select rolsuper from pg_roles where rolname = current_user"
            assert connection.execute(asked).fetchone() == (False,)
        with psycopg.connect(admin_url(short / "postgres")) as connection:
            query = "select string_agg(auth_method, ',') from pg_hba_file_rules"
            (rules,) = connection.execute(query).fetchone()
        assert "CapEff:\t0000000000000000" in status
        assert rules == "scram-sha-256"
        for name in ("postgres/password.postgres", "running.json"):
            tried = subprocess.run(
                ["setpriv", "--reuid=65534", "--clear-groups", "cat", str(short / name)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert "Permission denied" in tried.stderr
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(re.sub(r"(//\w+):[^@]*@", r"\1@", started.database_url))


def test_a_cluster_of_an_earlier_release_gets_a_password_and_keeps_its_data(short):
    admin = short / "postgres"
    with servers(short, valkey=False) as first, psycopg.connect(admin_url(admin)) as connection:
        connection.execute("create schema paceline")
        connection.execute("create table paceline.kept (id int)")
        connection.execute("alter role postgres password null")
        connection.execute("alter database postgres owner to postgres")
    for name in ("postgres", "paceline"):
        (short / "postgres" / f"password.{name}").unlink()
    (short / "postgres" / "data" / "pg_hba.conf").write_text("local all all trust\n")
    with servers(short, valkey=False) as second:
        assert second.database_url != first.database_url
        with psycopg.connect(second.database_url) as connection:
            assert connection.execute("select count(*) from paceline.kept").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(first.database_url)


def test_servers_listen_on_loopback_or_a_socket_only(short):
    with servers(short) as started:
        with psycopg.connect(started.database_url) as connection:
            assert connection.execute("show listen_addresses").fetchone() == ("",)
        assert Redis.from_url(started.redis_url).config_get("bind") == {"bind": "127.0.0.1"}


def test_two_programs_share_the_servers_and_the_last_one_stops_them(short):
    code = "import sys; from pathlib import Path; from app.embedded import servers\n"
    code += "with servers(Path(sys.argv[1])) as s: print(s.redis_url, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(short)]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    urls = [program.stdout.readline().strip() for program in programs]
    assert urls[0] == urls[1]
    programs[0].communicate("")
    assert Redis.from_url(urls[0]).ping()
    programs[1].communicate("")
    assert running(short) == Servers()


def test_servers_that_outlived_a_killed_program_are_used_and_then_stopped(short):
    code = "import sys, os, signal; from pathlib import Path; from app.embedded import servers\n"
    code += "with servers(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    ended = subprocess.run([sys.executable, "-c", code, str(short)], check=False)
    assert ended.returncode == -signal.SIGKILL
    pid = int((short / "valkey" / "pid").read_text())
    postmaster = int((short / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    with servers(short) as started:
        assert int((short / "valkey" / "pid").read_text()) == pid
        assert Redis.from_url(started.redis_url).ping()
    deadline = monotonic() + 10
    while monotonic() < deadline and (_is_alive(pid) or _is_alive(postmaster)):
        sleep(0.05)
    assert not _is_alive(pid)
    assert not _is_alive(postmaster)


def _is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_long_path_gets_a_short_socket(short):
    deep = short.parent / ("d" * 60) / ("e" * 60)
    with servers(deep, valkey=False) as started, psycopg.connect(started.database_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_can_run_them():
    """As `nobody`, who may not read root's Python: what it needs of that is imported before."""
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        os.chmod(folder, 0o777)
        ended = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder], cwd="/", capture_output=True, text=True, check=False
        )
        if ended.returncode == 77:
            pytest.skip("this folder is root's alone")
        assert ended.returncode == 0, ended.stderr
        assert "postgresql://" in ended.stdout


AS_NOBODY = """
import os, pwd, sys, tempfile
import app
from pathlib import Path
from app.embedded import servers
with tempfile.TemporaryDirectory(prefix="pl-") as first:  # whatever is imported late is imported now
    with servers(Path(first) / "home"):
        pass
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
os.environ["HOME"] = sys.argv[1]
if not os.access(app.__file__, os.R_OK):
    sys.exit(77)
with servers(Path(sys.argv[1]) / "home") as started:
    print(started.database_url)
"""
