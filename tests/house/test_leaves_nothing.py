"""A test run that is killed leaves no process and no file behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.program import clean_env, wait_for
from tests.support.reaper import NAME, processes_of

ROOT = Path(__file__).parents[2]
KILLED = """
import pathlib, time
from tests.conftest import *

def test_that_is_killed(embedded, tmp_path):
    pathlib.Path({said!r}).write_text(os.environ["TMPDIR"])
    time.sleep(60)
"""


def test_a_run_that_is_killed_leaves_no_server_and_no_file(tmp_path):
    said, file = tmp_path / "said", tmp_path / "test_killed.py"
    file.write_text(KILLED.format(said=str(said)))
    env = clean_env(PYTHONPATH=str(ROOT))
    del env[NAME]  # as if nobody had begun a run
    run = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-c",
            os.devnull,
            str(file),
        ],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: said.exists() and said.read_text(), 60, "its servers")
        folder = said.read_text()
        assert Path(folder).name.startswith("pt-")
        assert len(processes_of(folder)) > 3, "PostgreSQL and Valkey"
        run.send_signal(signal.SIGKILL)
        run.wait(10)
        wait_for(lambda: not processes_of(folder), 20, "the end of its servers")
        wait_for(lambda: not Path(folder).exists(), 20, "the end of its files")
    finally:
        run.kill()
        run.wait()
