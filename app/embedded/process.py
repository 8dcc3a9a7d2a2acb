"""Processes that may outlive their program, and files that only their owner reads."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from app.clock import monotonic, sleep
from app.errors import Unreachable

START_S = 60
STOP_S = 30

children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Servers that this process started, to be reaped when they end."""


def wait_until(
    ready: Callable[[], bool], process: "subprocess.Popen[bytes] | None", name: str, log: Path
) -> None:
    deadline = monotonic() + START_S
    while not ready():
        if process is not None and process.poll() is not None:
            raise Unreachable(f"{name} ended at once, {log} says why: {_last_line(log)}")
        if monotonic() > deadline:
            raise Unreachable(f"{name} did not answer within {START_S} s, {log} may say why")
        sleep(0.02)


def reap() -> None:
    """Take note of servers of ours that died by themselves, so that none stays a zombie."""
    for pid, child in list(children.items()):
        if child.poll() is not None:
            del children[pid]


def end(pid: int, name: str, how: signal.Signals) -> None:
    """Stop a process of ours: ask, wait, and after STOP_S insist. Another program's pid is left alone."""
    if not alive_as(pid, name):
        return
    os.kill(pid, how)
    deadline = monotonic() + STOP_S
    while alive_as(pid, name):
        if monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        sleep(0.02)
    if child := children.pop(pid, None):
        child.wait()


def alive_as(pid: int | None, name: str) -> bool:
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


def pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def private(path: Path) -> IO[bytes]:
    """Open for appending, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def write_private(path: Path, content: str) -> None:
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
