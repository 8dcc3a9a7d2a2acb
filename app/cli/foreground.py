"""A program in the foreground: one per folder, ended by Ctrl-C, SIGTERM or a closed terminal."""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConfigError


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the home for the block; raises ConfigError when another `paceline up` has it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "up.pid").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise ConfigError(
                f"`paceline up` already runs in {home.absolute()}, pid {pid}: look at it with "
                "`paceline status`, end it with Ctrl-C or `kill`, or give another one its own PACELINE_HOME"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def stop_on_signals() -> threading.Event:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; the second gives up waiting."""
    stopping = threading.Event()

    def on_signal(number: int, _: object) -> None:
        if number == signal.SIGHUP:  # the terminal is gone: writing to it would be an error
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (1, 2):
                os.dup2(nowhere, descriptor)
        if stopping.is_set() and number != signal.SIGHUP:
            raise KeyboardInterrupt
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    return stopping
