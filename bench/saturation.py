"""The cap, end to end: a saturated fleet against a gateway that enforces exactly that cap.

    python -m bench.saturation --rate 4 --seconds 600 --workers 4

Real embedded servers, real Celery workers, the sandbox gateway as a process of its own with `rate` and
a capacity of max(2, rate/10). Prints, by the gateway's own clock: calls answered 429, share of the cap
that was used, and the peak in any sliding second. Use is measured from 15 s after the first call (the
workers are up) to 15 s before the time given is over, when the fleet drains.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.figures import peak_in_a_second
from bench.fleet import run_fleet

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
    ran = run_fleet(
        folder,
        agents=agents,
        rate=rate,
        period_s=period,
        seconds=seconds,
        workers=workers,
        latency=latency,
    )
    if keep := os.environ.get("KEEP_REQUESTS"):
        Path(keep).write_text("\n".join(json.dumps(request) for request in ran.requests))
    return report(ran.requests, ran.summary, rate, seconds) | {
        "rate": rate, "capacity": ran.capacity, "workers": workers, "agents": agents, "latency_s": latency,
        "gateway_first": ran.gateway_first,
    }  # fmt: skip


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
