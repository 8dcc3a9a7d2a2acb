"""The processes that `paceline up` starts, watches and stops. It ends only what it started."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.clock import monotonic
from app.embedded.process import private
from app.errors import PortTaken

LOG_MAX = 10_000_000
BACKOFF_MAX_S = 30.0
WELL_AFTER_S = 60.0
"""A process that lived so long is well: its next death is its first again."""
PR_SET_PDEATHSIG = 1


class Part:
    """One process of ours with its log file. A part that dies is started again after 1, 2, 4 ... 30 s, for
    ever: what ended it may be a server's fault, and only a person may end the others.
    """

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = command
        self._env = dict(env)
        self.restarts = 0
        self._deaths = 0
        self._began = monotonic()
        self._due: float | None = None
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self._cut_log()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,  # Ctrl-C is for us; we tell the parts in the right order
                preexec_fn=_die_with_parent,
            )
        finally:
            os.close(descriptor)

    def _cut_log(self) -> None:
        """Set a long log aside. The process goes on writing into the same file, at its new end."""
        if self.log.exists() and self.log.stat().st_size > LOG_MAX:
            old = self.log.with_suffix(".old.log")
            old.unlink(missing_ok=True)
            with private(old) as kept, self.log.open("rb") as full:
                shutil.copyfileobj(full, kept)
            os.truncate(self.log, 0)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> str | None:
        """Look whether the process lives, and start it again when its time has come. Returns what a person
        should hear of, once.
        """
        now = monotonic()
        self._cut_log()
        if self._due is not None:
            if now < self._due:
                return None
            self._due = None
            self.restarts += 1
            self._began = now
            self._process = self._start()
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._deaths = 1 if now - self._began > WELL_AFTER_S else self._deaths + 1
        wait_s = min(BACKOFF_MAX_S, 2.0 ** (self._deaths - 1))
        self._due = now + wait_s
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        why = "" if code < 0 else f" ({self.last_line()})"
        return f"{self.name} {how}{why}: it is started again in {wait_s:g} s"

    @property
    def is_down(self) -> bool:
        """Whether it died and waits to be started again."""
        return self._due is not None

    def replace(self) -> None:
        """Kill the process, which hangs, and start it again."""
        self._process.kill()
        self._process.wait()
        self.restarts += 1
        self._began, self._due = monotonic(), None
        self._process = self._start()

    def terminate(self) -> None:
        """Ask it to end: a worker finishes what it holds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; kill it and return False when that takes longer."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def last_line(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return _plain(lines[-1])[:300] if lines else "nothing"


def _plain(line: str) -> str:
    """A log line for a person: of JSON the event, and the end of its traceback."""
    try:
        entry = json.loads(line)
        said = str(entry["event"])
    except (ValueError, KeyError, TypeError):
        return line
    *_, last = str(entry.get("exception") or entry.get("error") or entry.get("why") or "").splitlines() or [
        ""
    ]
    return f"{said}: {last}" if last and last not in said else said


def stop_all(parts: list[Part], seconds: float) -> list[str]:
    """Stop parts together within a time; returns the names of those that had to be killed."""
    for part in parts:
        part.terminate()
    deadline = monotonic() + seconds
    return [part.name for part in parts if not part.wait(deadline - monotonic())]


def celery_command(*arguments: str) -> list[str]:
    """A Celery command line of this very installation."""
    return [sys.executable, "-m", "celery", "--app", "workers", "--quiet", *arguments]


def require_port(host: str, port: int, setting: str, without: str = "") -> None:
    """Raise PortTaken, naming the setting and the option that leaves it out, when something listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"cannot listen on {host}:{port} ({error.strerror}): set {setting} to another port"
                + (f", or leave it out with {without}" if without else "")
            ) from None


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """Linux: get SIGTERM when `paceline up` dies in whatever way, so that no orphan works on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
