"""Limiters side by side: does the cap hold, is it used, what does a permit cost, who waits how long?

    make bench-limiters          (or python -m bench.limiters --rates 4,50,500)

Four processes of T threads each ask for permits all the time, one limiter after the other, each with a
fresh Valkey of its own. By the moment of each permit, on the one clock of the machine:

* used: permits per second over the rate
* peak: the most permits in any closed second, over the rate
* refused: permits that a gateway would answer 429 that enforces exactly the rate with a capacity of
  max(2, rate/10) calls
* trips: round trips to Redis per permit, settling included, counted at the client's socket
* cpu: milliseconds of user and system time of the four processes per permit
* p50, p99: wait over the fair wait, which is threads / rate
* jain: Jain's index of the permits per thread; 1 is perfectly fair

Writes docs/limiters.json, docs/limiters.md and docs/limiters.svg; the last two from the first.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pygal
from pygal.style import Style
from redis.connection import AbstractConnection
from rich.progress import Progress

from app.clock import monotonic, sleep, utcnow
from app.embedded import servers
from app.gateway.sandbox.state import StrictLimit
from bench.figures import peak_in_a_second
from bench.peers import LIMITERS, room

PROCESSES = 4
THREADS = {4: 8, 50: 8, 500: 16}
SECONDS = {4: 30, 50: 12, 500: 8}
RAMP_S = 3
DOCS = Path(__file__).parent.parent / "docs"

Permit = tuple[float, float, int]
"""When it was asked for, when it was there, and by which thread; seconds on the monotonic clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="4,50,500", help="calls per second, comma-separated")
    parser.add_argument("--runs", type=int, default=5, help="of each; the middle one counts")
    parser.add_argument("--only", default="", help="a part of the limiter's name")
    parser.add_argument("--out", type=Path, default=DOCS)
    chosen = parser.parse_args()
    rates = [int(rate) for rate in chosen.rates.split(",")]
    names = [name for name in LIMITERS if chosen.only.lower() in name.lower()]
    rows = []
    with Progress() as progress:
        task = progress.add_task("limiters", total=len(rates) * len(names))
        for rate in rates:
            for name in names:
                progress.update(task, description=f"{rate}/s {name}")
                runs = [measure(name, rate) for _ in range(chosen.runs)]
                rows.append({"limiter": name, "rate": rate, **middle(runs)})
                progress.advance(task)
    report = {
        "command": f"python -m bench.limiters --rates {chosen.rates} --runs {chosen.runs}",
        "runs": chosen.runs,
        "date": utcnow().date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "rows": rows,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "limiters.json").write_text(json.dumps(report, indent=1) + "\n")
    (chosen.out / "limiters.md").write_text(page(report))
    (chosen.out / "limiters.svg").write_bytes(plot(rows))
    print(table(rows))


def measure(name: str, rate: int) -> dict[str, Any]:
    """One limiter at one rate, from four processes."""
    threads = THREADS.get(rate, 8)
    seconds = SECONDS.get(rate, 20)
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="pl-") as folder,
        servers(Path(folder), postgres=False) as started,
    ):
        answers = context.Queue()
        begin = monotonic() + 5  # when every process is up
        arguments = (name, started.redis_url, rate, threads, begin, begin + RAMP_S + seconds)
        processes = [
            context.Process(target=ask, args=(*arguments, number, answers)) for number in range(PROCESSES)
        ]
        for process in processes:
            process.start()
        parts = [answers.get(timeout=120 + seconds) for _ in processes]
        for process in processes:
            process.join(60)
    permits = [tuple(permit) for part in parts for permit in part["permits"]]
    trips, cpu_s = sum(part["trips"] for part in parts), sum(part["cpu_s"] for part in parts)
    return judge(permits, rate, PROCESSES * threads, begin + RAMP_S, seconds) | {
        "trips": round(trips / max(1, len(permits)), 2),
        "cpu_ms": round(1000 * cpu_s / max(1, len(permits)), 2),
    }


def ask(
    name: str, url: str, rate: int, threads: int, begin: float, end: float, number: int, answers: Any
) -> None:
    """One process: its threads ask until the end; then it puts what they saw into `answers`."""
    trips = _count_round_trips()
    acquire = LIMITERS[name](url, rate, threads)
    permits: list[Permit] = []

    def work(thread: int) -> None:
        sleep(begin - monotonic())
        while (asked := monotonic()) < end:
            acquire()
            permits.append((asked, monotonic(), number * threads + thread))

    team = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for thread in team:
        thread.start()
    sleep(begin - monotonic())
    trips[0], before = 0, _cpu_s()
    sleep(end - monotonic())
    answers.put({"permits": list(permits), "trips": trips[0], "cpu_s": _cpu_s() - before})
    answers.close()
    answers.join_thread()
    os._exit(0)  # whoever still waits for a permit is not waited for


def judge(permits: Sequence[Permit], rate: int, askers: int, begin: float, seconds: float) -> dict[str, Any]:
    """The figures of one run, from `begin` on."""
    counted = sorted((p for p in permits if begin <= p[1] < begin + seconds), key=lambda p: p[1])
    at = [permit[1] for permit in counted]
    fair = askers / rate
    waits = [permit[1] - permit[0] for permit in counted if permit[0] >= begin - RAMP_S / 2]
    by_thread = [sum(p[2] == thread for p in counted) for thread in range(askers)]
    return {
        "permits": len(at),
        "used": round(len(at) / (rate * seconds), 4),
        "peak": round(peak_in_a_second(at) / rate, 3),
        "refused": refused(sorted(p[1] for p in permits), rate),
        "p50_over_fair": round(median(waits) / fair, 3) if waits else None,
        "p99_over_fair": round(quantiles(waits, n=100)[98] / fair, 3) if len(waits) > 1 else None,
        "jain": round(sum(by_thread) ** 2 / (askers * sum(n * n for n in by_thread)), 4) if at else None,
    }


def refused(at: Sequence[float], rate: int) -> int:
    """How many a gateway refuses that forgives max(2, rate/10) calls at once and no more."""
    gateway, capacity = StrictLimit(), room(rate)
    return sum(not gateway.allows(int(moment * 1e9), rate, capacity) for moment in at)


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The medians of several runs, and of what is bad the range, under its name and `_range`."""
    found: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs if run[name] is not None]
        found[name] = round(median(values), 4) if values else None
    for name in ("used", "refused", "p99_over_fair", "cpu_ms"):
        values = [run[name] for run in runs if run[name] is not None]
        found[f"{name}_range"] = [min(values), max(values)] if values else None
    return found


def _count_round_trips() -> list[int]:
    """Count what is sent to Redis: a command or a pipeline is one round trip."""
    trips, send = [0], AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, *args: Any, **kwargs: Any) -> Any:
        trips[0] += 1
        return send(self, *args, **kwargs)

    AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]
    return trips


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


COLUMNS = {
    "used": "used",
    "peak": "peak second / rate",
    "refused": "a strict gateway refuses",
    "trips": "round trips",
    "cpu_ms": "CPU ms",
    "p50_over_fair": "p50 wait / fair",
    "p99_over_fair": "p99 wait / fair",
    "jain": "Jain",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table for each rate."""
    lines = []
    for rate in dict.fromkeys(row["rate"] for row in rows):
        lines += ["", f"| {rate} calls/s | " + " | ".join(COLUMNS.values()) + " |"]
        lines.append("|---" * (len(COLUMNS) + 1) + "|")
        for row in rows:
            if row["rate"] == rate:
                shown = {
                    **row,
                    "used": f"{row['used']:.1%}" + _range(row, "used", "{:.1%}"),
                    "refused": f"{row['refused']:g}" + _range(row, "refused", "{:g}"),
                    "cpu_ms": f"{row['cpu_ms']:g}" + _range(row, "cpu_ms", "{:g}"),
                }
                lines.append(f"| {row['limiter']} | " + " | ".join(str(shown[c]) for c in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _range(row: dict[str, Any], name: str, shape: str) -> str:
    low, high = row.get(f"{name}_range") or (0, 0)
    return f" ({shape.format(low)} to {shape.format(high)})" if low != high else ""


def page(report: dict[str, Any]) -> str:
    """docs/limiters.md."""
    said = __doc__.split("\n\n")
    return "\n\n".join(
        [
            "# Limiters side by side",
            f"Written by `{report['command']}` on {report['date']}; {report['machine']}. "
            "What the columns mean:",
            said[3],
            f"Medians of {report['runs']} runs, with their range. Paceline's figures are of the whole "
            "admission (quota, budgets, breaker, confirmation on waking, settling), the others' of the rate "
            "alone; so it needs more CPU and round trips than most of them. Each library is there as it "
            "comes and with the settings that serve it best here.",
            "![peak second over the cap, by limiter](limiters.svg)",
            table(report["rows"]).strip() + "\n",
        ]
    )


def plot(rows: Sequence[dict[str, Any]]) -> bytes:
    """Peak second over the cap for each limiter and rate, with the cap as a line."""
    style = Style(
        background="white",
        plot_background="white",
        font_family="sans-serif",
        colors=("#0b7285", "#e8590c", "#868e96"),
    )
    chart = pygal.HorizontalBar(
        style=style,
        js=(),
        width=860,
        height=420,
        legend_at_bottom=True,
        print_values=True,
        title="Most permits in any second, over the cap (1.0 is the cap)",
    )
    names = list(dict.fromkeys(row["limiter"] for row in rows))
    chart.x_labels = names
    for rate in dict.fromkeys(row["rate"] for row in rows):
        found = {row["limiter"]: row["peak"] for row in rows if row["rate"] == rate}
        chart.add(f"{rate} calls/s", [found.get(name) for name in names])
    rendered: bytes = chart.render()
    return rendered


if __name__ == "__main__":
    main()
