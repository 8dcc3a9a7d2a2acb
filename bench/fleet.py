"""A whole fleet for a bench: `paceline up` on embedded servers, and the sandbox as a process of its own."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from app.cli.parts import free_port
from app.clock import monotonic, sleep

EXAMPLES = 100
"""Agents that `up` brings along when there are none; the others are imported while it runs."""

PROGRAM = [sys.executable, "-m", "app.cli"]


@dataclass(frozen=True)
class Ran:
    """The gateway's count and the fleet's summary."""

    requests: list[dict[str, Any]]
    summary: dict[str, Any]
    capacity: int


def run_fleet(
    folder: Path, *, agents: int, rate: float, period_s: int, seconds: int, workers: int, latency: float
) -> Ran:
    """Run so many agents for so long against a gateway that enforces exactly the cap."""
    roster = folder / "roster.csv"
    with roster.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["handle", "display_name", "community", "persona"])
        writer.writerows(
            [f"a{n}", f"Agent {n}", f"Place {n % 10}", "You like load."] for n in range(agents - EXAMPLES)
        )
    port, capacity = free_port(), max(2, int(rate / 10))
    gateway = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "PACELINE_CYCLE__PERIOD_S": str(period_s),
        "PACELINE_LIMITS__RATE": str(rate),
        "PACELINE_GATEWAY__BASE_URL": f"{gateway}/v1",
        "PACELINE_WORKER__THREADS": str(max(16, int(rate * (latency + 5) / workers) + 4)),
    }
    arguments = ["--port", str(port), "--rate", str(rate), "--capacity", str(capacity)]
    sandbox = subprocess.Popen(
        [*PROGRAM, "sandbox", *arguments, "--latency", str(latency)],
        cwd=folder,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    up = ["up", "--no-web", "--no-flower", "--json"]
    with subprocess.Popen(
        [*PROGRAM, *up, "--for", str(seconds), "--workers", str(workers)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        deadline = monotonic() + 60
        while not (folder / ".paceline" / "running.json").exists() and monotonic() < deadline:
            sleep(0.1)
        imported = agents <= EXAMPLES
        while not imported and monotonic() < deadline:
            sleep(0.5)
            done = subprocess.run(
                [*PROGRAM, "agents", "import", str(roster)],
                cwd=folder,
                env=env,
                capture_output=True,
                check=False,
            )
            imported = done.returncode == 0
        out, _ = program.communicate(timeout=seconds + 200)
    lines = httpx2.get(f"{gateway}/sandbox/requests", timeout=60, trust_env=False).text.splitlines()
    sandbox.terminate()
    sandbox.wait(20)
    return Ran([json.loads(line) for line in lines], json.loads(out), capacity)
