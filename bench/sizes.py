"""Fleets of 100, 500 and 1,000 agents, end to end.

    python -m bench.sizes --sizes 100 500 1000

A cap of 20 calls/s and cycles of 60 s: five times faster than 4/s and 300 s, and the same relation of
demand to cap. Real embedded servers, 4 workers, a gateway with 1.5 s latency that enforces exactly the cap.
Counted over the whole cycles that fell within the run: how many agents got a turn in each, when the last
one ended, and the longest gap between two turns of one agent, in cycles.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.db import make_engine
from app.embedded import servers
from app.models import Run
from bench.fleet import run_fleet

PERIOD_S, RATE, LATENCY_S, WORKERS = 60, 20.0, 1.5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 1_000])
    parser.add_argument("--cycles", type=int, default=4)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = []
    for agents in chosen.sizes:
        with tempfile.TemporaryDirectory(prefix="pl-") as folder:
            found.append(measure(Path(folder), agents, chosen.cycles))
        sys.stderr.write(json.dumps(found[-1]) + "\n")
    result = {"period_s": PERIOD_S, "rate": RATE, "latency_s": LATENCY_S, "sizes": found}
    print(json.dumps(result))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, agents: int, cycles: int) -> dict[str, Any]:
    """Run one fleet for so many whole cycles, and the parts of cycles around them."""
    ran = run_fleet(
        folder,
        agents=agents,
        rate=RATE,
        period_s=PERIOD_S,
        seconds=PERIOD_S * (cycles + 1),
        workers=WORKERS,
        latency=LATENCY_S,
    )
    with servers(folder / ".paceline", valkey=False) as kept:
        assert kept.database_url
        engine = make_engine(kept.database_url)
        with engine.connect() as connection:
            query = select(Run.agent_id, Run.cycle_at, Run.state, Run.started_at, Run.finished_at)
            rows = connection.execute(query.where(Run.cycle_at.is_not(None))).all()
        engine.dispose()
    whole = sorted({row.cycle_at for row in rows})[1:-1]
    served: dict[Any, int] = defaultdict(int)
    last_s: dict[Any, float] = defaultdict(float)
    turns: dict[Any, list[int]] = defaultdict(list)
    for row in rows:
        if row.state != "completed":
            continue
        turns[row.agent_id].append(round(row.cycle_at.timestamp() / PERIOD_S))
        if row.cycle_at in whole:
            served[row.cycle_at] += 1
            took = (row.finished_at - row.cycle_at).total_seconds()
            last_s[row.cycle_at] = max(last_s[row.cycle_at], took)
    gaps = [b - a for seen in turns.values() for a, b in zip(sorted(seen), sorted(seen)[1:], strict=False)]
    return {
        "agents": agents,
        "whole_cycles": len(whole),
        "served_per_cycle": [served[cycle] for cycle in whole],
        "last_run_ended_s": [round(last_s[cycle], 1) for cycle in whole],
        "longest_gap_cycles": max(gaps, default=0),
        "never_served": agents - len(turns),
        "calls": len(ran.requests),
        "answered_429": sum(request["status"] == 429 for request in ran.requests),
        "runs": ran.summary["runs"],
    }


if __name__ == "__main__":
    main()
