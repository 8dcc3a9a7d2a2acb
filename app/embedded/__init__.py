"""Real PostgreSQL and real Valkey without an installation: from their wheels, under one folder.

Used by `paceline up` when DATABASE_URL or REDIS_URL is unset, and by the tests.

* Everything lives under `home` (0700): `postgres/`, `valkey/` with their data and logs,
  `running.json` with the addresses. Only local sockets and loopback, Valkey with a password.
* Two programs may use the same home. Starting and stopping happen under an exclusive lock on
  `home/lock`; each user holds a shared lock on `home/users`, which the kernel drops when the
  process dies in whatever way. A program that leaves and gets that lock exclusively was the last one,
  and stops the servers. A server that outlived a killed program is found and used, not started twice.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from app.embedded import postgres as postgres_server
from app.embedded import valkey as valkey_server
from app.embedded.process import private, reap, write_private


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
    with private(home / "users") as users:
        with _locked(home):
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                started = Servers(
                    database_url=postgres_server.start(home / "postgres") if postgres else None,
                    redis_url=valkey_server.start(home / "valkey") if valkey else None,
                )
                write_private(home / "running.json", json.dumps(asdict(started)))
            except BaseException:  # what was started before it failed must not stay
                _stop_if_last(home, users)
                raise
        try:
            yield started
        finally:
            with _locked(home):
                _stop_if_last(home, users)


def _stop_if_last(home: Path, users: IO[bytes]) -> None:
    if _is_last(users):
        (home / "running.json").unlink(missing_ok=True)
        valkey_server.stop(home / "valkey")
        postgres_server.stop(home / "postgres")


def revive(home: Path, started: Servers) -> list[str]:
    """Start again what died of the servers that this program runs; returns their names."""
    home, revived = home.resolve(), []
    reap()
    with _locked(home):
        if started.redis_url and not valkey_server.is_alive(home / "valkey"):
            valkey_server.start(home / "valkey")
            revived.append("valkey")
        if started.database_url and not postgres_server.is_alive(home / "postgres"):
            postgres_server.start(home / "postgres")
            revived.append("postgres")
    return revived


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
    with private(home / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_last(users: IO[bytes]) -> bool:
    """Whether nobody else holds a shared lock on this open file."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
