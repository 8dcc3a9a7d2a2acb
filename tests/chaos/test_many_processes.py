"""The cap, kept by 64 processes that share nothing but Redis, at the gateway's own clock."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from app.cli.parts import free_port
from app.clock import sleep
from app.embedded import revive, servers
from app.gateway.sandbox.state import StrictLimit
from tests.chaos.fleet import wait_until
from tests.chaos.proxy import Proxy

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.alone]

RATE, CAPACITY, PROCESSES, SECONDS = 20, 6, 64, 25


def test_cap_holds_from_64_processes_that_are_stopped_while_redis_dies():
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as folder,
        servers(Path(folder), postgres=False) as started,
    ):
        address = urlsplit(started.redis_url)
        proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", address.port))
        proxy.delay_s = 0.004
        gateway = f"http://127.0.0.1:{free_port()}"
        sandbox = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "app.cli",
                "sandbox",
                "--port",
                gateway.rpartition(":")[2],
                "--rate",
                "1000",
                "--capacity",
                "1000",
            ],
            stderr=subprocess.DEVNULL,
        )
        callers = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.chaos.caller",
                f"redis://:{address.password}@127.0.0.1:{proxy.port}/0",
                gateway,
                str(RATE),
                str(PROCESSES),
                str(SECONDS),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            with httpx2.Client(base_url=gateway, timeout=20, trust_env=False) as client:
                assert wait_until(lambda: _answers(client), 30)
                line = next(line for line in callers.stdout if line.startswith("pids"))
                pids = [int(pid) for pid in line.split()[1:]]
                assert len(pids) == PROCESSES
                sleep(6)
                for pid in pids[:6]:
                    os.kill(pid, signal.SIGSTOP)
                sleep(3)
                for pid in pids[:6]:
                    os.kill(pid, signal.SIGCONT)
                sleep(3)
                os.kill(int((Path(folder) / "valkey" / "pid").read_text()), signal.SIGKILL)
                sleep(1)
                assert revive(Path(folder), started) == ["valkey"]
                callers.wait(SECONDS + 30)
                seen = client.get("/sandbox/requests").text.splitlines()
        finally:
            for process in (callers, sandbox):
                process.terminate()
                process.wait(20)
            callers.stdout.close()
            proxy.close()
    arrivals = sorted(json.loads(line)["at_us"] for line in seen)
    limit = StrictLimit()
    assert sum(not limit.allows(at * 1000, RATE, CAPACITY) for at in arrivals) == 0
    assert len(arrivals) > 0.6 * RATE * SECONDS, "the cap is used, less the time Redis was away"


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx2.HTTPError:
        return False
