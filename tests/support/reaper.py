"""Sees to it that a test run leaves nothing behind, however it ends: also after SIGKILL.

`python -m tests.support.reaper FOLDER` waits for its standard input to end, which the run holds open.
Then it kills all processes of that folder, and removes it.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

NAME = "TMPDIR"
"""All that a run writes is below it, and every process that it starts inherits it."""


def begin() -> int | None:
    """Give this run a folder of its own, and somebody who clears it away; None where one is given already."""
    if os.environ.get(NAME, "").startswith(tempfile.gettempdir() + "/pt-"):
        return None
    folder = tempfile.mkdtemp(prefix="pt-")
    os.chmod(folder, 0o711)
    os.environ[NAME] = folder
    tempfile.tempdir = folder
    ours, held = os.pipe()  # the writing end is closed when this process is gone, however it goes
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.support.reaper", folder],
        stdin=ours,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != NAME},
    )
    os.close(ours)
    started.returncode = 0  # nobody waits for it: it outlives us
    return held


def main(folder: str) -> None:
    """Wait for the end of the run, then clear away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    deadline = monotonic() + 20
    while (left := processes_of(folder)) and monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: str) -> list[int]:
    """Processes that were started with this folder, work in it or name it."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and _is_of(Path("/proc", entry), folder):
            found.append(int(entry))
    return found


def _is_of(process: Path, folder: str) -> bool:
    mark = folder.encode()
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
        if f"{NAME}={folder}".encode() in environment:
            return True
        if mark + b"/" in (process / "cmdline").read_bytes():
            return True
        return (process / "cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
