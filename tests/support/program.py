"""The program as a person runs it: processes, their environment, what they print."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from app.cli.parts import free_port
from app.clock import monotonic, sleep

ROOT = Path(__file__).parents[2]
PACELINE = [sys.executable, "-m", "app.cli"]
SLOW = 3
"""A busy machine may take this many times as long. A bound only ends a wait for what never comes."""


def clean_env(**more: str) -> dict[str, str]:
    """The environment without anybody's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PACELINE_") and name not in ("DATABASE_URL", "REDIS_URL", "LOVABLE_API_KEY")
    }
    return {**kept, **more}


def paceline(
    *arguments: str, cwd: Path, timeout: float = SLOW * 60, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run `paceline` to its end."""
    return subprocess.run(
        [*PACELINE, *arguments],
        cwd=cwd,
        env=clean_env(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def sandbox_process(*arguments: str, cwd: Path) -> Iterator[str]:
    """`paceline sandbox` as a process of its own; yields its address without /v1."""
    port = free_port()
    process = subprocess.Popen(
        [*PACELINE, "sandbox", "--port", str(port), *arguments],
        cwd=cwd,
        env=clean_env(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: get(f"{url}/health") is not None, 90, "the sandbox")
        yield url
    finally:
        process.terminate()
        process.wait(15)


def get(url: str, **options: object) -> "httpx2.Response | None":
    """An answer, or None when nothing listens."""
    try:
        return httpx2.get(url, timeout=5, trust_env=False, **options)  # type: ignore[arg-type]
    except httpx2.TransportError:
        return None


def wait_for(ready, seconds: float, what: str) -> None:
    """Wait until `ready()` is true, up to SLOW times as long as a quiet machine may take."""
    deadline = monotonic() + SLOW * seconds
    while not ready():
        assert monotonic() < deadline, f"{what} did not come within {SLOW * seconds} s"
        sleep(0.1)


@contextmanager
def start_alone() -> Iterator[Callable[[], None]]:
    """One fleet of all tests starts at a time; yields what is called when it has started.

    Nine processes want both cores for ten seconds. Two starts at once make each other so slow that a fleet
    which runs for a fixed time is gone before it was asked.
    """
    with (ROOT / "pyproject.toml").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.close


def processes_of(folder: Path) -> list[str]:
    """Command lines of live processes that have this folder as working folder or in their words."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if words and (str(folder) in words or where == str(folder)):
            found.append(words)
    return found


def as_role(url: str, name: str, password: str) -> str:
    """The address of the embedded PostgreSQL for another role."""
    return re.sub(r"//[^@]*@", f"//{name}:{password}@", url)
