"""The cap, end to end: a saturated fleet against a gateway that enforces exactly that cap.

    python -m bench.saturation --rate 4 --seconds 600 --workers 4

Real embedded servers, real Celery workers, the sandbox gateway as a process of its own with `rate` and
a capacity of max(2, rate/10). Prints, by the gateway's own clock: calls answered 429, share of the cap
that was used, and the peak in any sliding second. `used_of_cap` is of the whole run, from its first call to
the end of the time given, its beginning and its end included; `used_when_busy` leaves 15 s out at both ends.
`--busy 2` keeps two cores busy with something else. Nothing has a priority.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.clock import utcnow
from bench.figures import peak_in_a_second
from bench.fleet import run_fleet

RAMP_S = 15
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=4)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--latency", type=float, default=1.0, help="seconds per gateway answer")
    parser.add_argument("--busy", type=int, default=0, help="loops that do nothing, beside it")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="add the result to the list in this file")
    chosen = parser.parse_args()
    found = []
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory(prefix="pl-") as folder, busy(chosen.busy):
            found.append(
                measure(Path(folder), chosen.rate, chosen.seconds, chosen.workers, chosen.latency)
                | {"busy_loops": chosen.busy, "date": utcnow().date().isoformat()}
            )
        print(json.dumps(found[-1]), flush=True)
    if chosen.out:
        before = json.loads(chosen.out.read_text()) if chosen.out.exists() else []
        mine = {(one["rate"], one["busy_loops"]) for one in found}
        kept = [one for one in before if (one["rate"], one["busy_loops"]) not in mine]
        chosen.out.write_text(json.dumps(kept + found, indent=1) + "\n")


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that want a core all the time."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(loops)]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


def measure(folder: Path, rate: float, seconds: int, workers: int, latency: float) -> dict[str, Any]:
    """Run a fleet whose demand is at least twice the cap."""
    period = 60
    agents = max(100, int(2 * rate * period / 1.8))
    ran = run_fleet(
        folder, agents=agents, rate=rate, period_s=period, seconds=seconds, workers=workers, latency=latency
    )
    if keep := os.environ.get("KEEP_REQUESTS"):
        Path(keep).write_text("\n".join(json.dumps(request) for request in ran.requests))
    return report(ran.requests, ran.summary, rate, seconds) | {
        "rate": rate,
        "capacity": ran.capacity,
        "workers": workers,
        "agents": agents,
        "latency_s": latency,
    }


def report(seen: list[dict[str, Any]], summary: dict[str, Any], rate: float, seconds: int) -> dict[str, Any]:
    """Return the gateway's count."""
    at = sorted(request["at_us"] / 1e6 for request in seen)
    begin, end = at[0] + RAMP_S, at[0] + seconds - RAMP_S
    used = sum(begin <= moment < end for moment in at)
    whole = sum(moment < at[0] + seconds for moment in at)
    return {
        "calls": len(at),
        "answered_429": sum(request["status"] == 429 for request in seen),
        "used_of_cap": round(whole / (rate * seconds), 4),
        "used_when_busy": round(used / (rate * (end - begin)), 4),
        "seconds": seconds,
        "peak_in_a_second": peak_in_a_second(at),
        "runs": summary["runs"],
        "open_runs": summary["open_runs"],
    }


if __name__ == "__main__":
    main()
