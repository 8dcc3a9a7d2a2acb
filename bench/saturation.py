"""The cap, end to end: a saturated fleet against a gateway that enforces exactly that cap.

    python -m bench.saturation --rate 4 --seconds 600 --workers 4

Real embedded servers, real Celery workers, the sandbox gateway as a process of its own with `rate` and
a capacity of max(2, rate/10). Prints, by the gateway's own clock: calls answered 429, share of the cap
that was used, and the peak in any sliding second. Use is measured from 15 s after the first call (the
workers are up) to 15 s before the time given is over, when the fleet drains.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2

from app.cli.parts import free_port
from app.clock import monotonic, sleep
from bench.figures import peak_in_a_second

PROGRAM = [sys.executable, "-m", "app.cli"]
RAMP_S = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=4)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--latency", type=float, default=1.0, help="seconds per gateway answer")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        result = measure(Path(folder), chosen.rate, chosen.seconds, chosen.workers, chosen.latency)
    print(json.dumps(result))


def measure(
    folder: Path, rate: float, seconds: int, workers: int, latency: float
) -> dict[str, Any]:
    """Run a fleet whose demand is at least twice the cap."""
    period = 60
    agents = max(100, int(2 * rate * period / 1.8))
    roster = folder / "roster.csv"
    with roster.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["handle", "display_name", "community", "persona"])
        writer.writerows(
            [f"a{n}", f"Agent {n}", f"Place {n % 10}", "You like load."] for n in range(agents)
        )
    port, capacity = free_port(), max(2, int(rate / 10))
    gateway = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "PACELINE_CYCLE__PERIOD_S": str(period),
        "PACELINE_LIMITS__RATE": str(rate),
        "PACELINE_GATEWAY__BASE_URL": f"{gateway}/v1",
        "PACELINE_WORKER__THREADS": str(max(16, int(rate * (latency + 5) / workers) + 4)),
        "PACELINE_LOG__LEVEL": "WARNING",
    }
    arguments = ["--port", str(port), "--rate", str(rate), "--capacity", str(capacity)]
    sandbox = subprocess.Popen(
        [*PROGRAM, "sandbox", *arguments, "--latency", str(latency)],
        cwd=folder,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    own_cpu = put_first(sandbox.pid)
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
        imported = False
        while not imported and monotonic() < deadline:
            sleep(0.5)
            done = subprocess.run([*PROGRAM, "agents", "import", str(roster)], cwd=folder, env=env,
                                  capture_output=True, check=False)  # fmt: skip
            imported = done.returncode == 0
        out, _ = program.communicate(timeout=seconds + 200)
    lines = httpx2.get(f"{gateway}/sandbox/requests", timeout=60, trust_env=False).text.splitlines()
    if keep := os.environ.get("KEEP_REQUESTS"):
        Path(keep).write_text("\n".join(lines))
    sandbox.terminate()
    sandbox.wait(20)
    return report([json.loads(line) for line in lines], json.loads(out), rate, seconds) | {
        "rate": rate, "capacity": capacity, "workers": workers, "agents": agents, "latency_s": latency,
        "gateway_first": own_cpu,
    }  # fmt: skip


def put_first(pid: int) -> bool:
    """Let the sandbox run first, as a gateway on its own machine would; False if we may not."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    except (OSError, AttributeError):
        return False
    return True


def report(
    seen: list[dict[str, Any]], summary: dict[str, Any], rate: float, seconds: int
) -> dict[str, Any]:
    """What the gateway saw."""
    at = sorted(request["at_us"] / 1e6 for request in seen)
    begin, end = at[0] + RAMP_S, at[0] + seconds - RAMP_S
    used = sum(begin <= moment < end for moment in at)
    return {
        "calls": len(at),
        "answered_429": sum(request["status"] == 429 for request in seen),
        "used_of_cap": round(used / (rate * (end - begin)), 4),
        "measured_s": round(end - begin, 1),
        "peak_in_a_second": peak_in_a_second(at),
        "runs": summary["runs"],
        "open_runs": summary["open_runs"],
    }


if __name__ == "__main__":
    main()
