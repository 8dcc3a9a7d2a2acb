"""An hour at saturation: memory of every process, calls a second and latency, flat or not.

    python -m bench.soak --seconds 3600 --rate 20 --out docs/soak.json

`paceline up` with two workers, demand at twice the cap, a gateway that enforces the cap. Memory is read every
ten seconds and told by quarter of the time; the first warms up. Latency is the ledger's: from the call to its
answer, where the gateway always takes the same, and from the row before the call to the row closed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from app.clock import monotonic
from app.db import make_engine
from app.embedded import servers
from bench.fleet import run_fleet
from bench.saturation import report

EVERY_S = 10.0
PARTS = ("worker1", "worker2", "express", "beat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-") as name:
        result = measure(Path(name), chosen.rate, chosen.seconds, chosen.latency)
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, rate: float, seconds: int, latency: float) -> dict[str, Any]:
    """Run the fleet, and look at its processes meanwhile."""
    ended = threading.Event()
    memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
    sampler = threading.Thread(target=sample, args=(folder, memory, ended))
    sampler.start()
    try:
        ran = run_fleet(
            folder,
            agents=max(100, int(2 * rate * 60 / 1.8)),
            rate=rate,
            period_s=60,
            seconds=seconds,
            workers=2,
            latency=latency,
        )
    finally:
        ended.set()
        sampler.join()
    latency_ms = latencies(folder)
    at = sorted(request["at_us"] / 1e6 for request in ran.requests)
    quarter = (at[-1] - at[0]) / 4
    counts = [
        sum(at[0] + n * quarter <= moment < at[0] + (n + 1) * quarter for moment in at) for n in range(4)
    ]
    return {
        "seconds": seconds,
        "rate": rate,
        "calls_per_s_by_quarter": [round(counts[n] / quarter, 2) for n in range(4)],
        "memory_mb_by_quarter": {name: quarters(found) for name, found in sorted(memory.items())},
        "latency_by_quarter": latency_ms,
        **report(ran.requests, ran.summary, rate, seconds),
    }


def latencies(folder: Path) -> dict[str, list[float]]:
    """Milliseconds by quarter, from the ledger that the fleet left behind."""
    query = text("""
        with timed as (
            select ntile(4) over (order by created_at) as quarter, latency_ms,
                   1000 * extract(epoch from finished_at - created_at) as open_ms
            from paceline.ai_request_log where status = 'ok')
        select quarter, percentile_cont(0.5) within group (order by latency_ms),
               percentile_cont(0.95) within group (order by latency_ms),
               percentile_cont(0.5) within group (order by open_ms),
               percentile_cont(0.95) within group (order by open_ms)
        from timed group by quarter order by quarter""")
    with servers(folder / ".paceline", valkey=False) as started:
        engine = make_engine(started.database_url or "")
        with engine.connect() as connection:
            found = connection.execute(query).all()
        engine.dispose()
    names = ("answer p50", "answer p95", "row open p50", "row open p95")
    return {
        name: [round(float(row[number]), 1) for row in found] for number, name in enumerate(names, start=1)
    }


def sample(folder: Path, memory: dict[str, list[tuple[float, float]]], ended: threading.Event) -> None:
    """Resident memory by part of the program, every ten seconds."""
    while not ended.wait(EVERY_S):
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = " ".join(process.info["cmdline"] or [])
            if process.info["cwd"] != str(folder):
                continue
            part = next((name for name in PARTS if f"{name}@" in words or f" {name} " in words), None)
            if part:
                memory[part].append((monotonic(), process.memory_info().rss / 1e6))


def quarters(found: list[tuple[float, float]]) -> list[float]:
    """Median megabytes in each quarter of the time."""
    size = max(1, len(found) // 4)
    parts = [found[n * size : (n + 1) * size] or found for n in range(4)]
    return [round(statistics.median(mb for _, mb in part), 1) for part in parts]


if __name__ == "__main__":
    sys.exit(main())
