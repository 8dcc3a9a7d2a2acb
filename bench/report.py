"""The tables and plots of docs/performance.md, made from what the benches wrote to docs/*.json.

    python -m bench.report

Each table stands between two comments that name its bench; whatever is written around them stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pygal
from pygal.style import Style

DOCS = Path(__file__).parent.parent / "docs"
STYLE = Style(
    background="white",
    plot_background="white",
    font_family="sans-serif",
    colors=("#0b7285", "#e8590c", "#868e96", "#5f3dc4"),
)
Figures = dict[str, Any]


def main() -> None:
    page = DOCS / "performance.md"
    text = page.read_text()
    for name, table in TABLES.items():
        source = DOCS / f"{name}.json"
        if source.exists():
            text = between(text, name, table(json.loads(source.read_text())))
    page.write_text(text)


def between(text: str, name: str, table: str) -> str:
    """The page with another table between the comments of that name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"docs/performance.md has no place for {name}: {begin}{end}")
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def rows(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    all_rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in all_rows)


def draw(name: str, chart: Any) -> str:
    """Write the chart to docs/images, and return what shows it."""
    (DOCS / "images" / f"{name}.svg").write_bytes(chart.render())
    return f"\n![{chart.config.title}](images/{name}.svg)\n"


def pipeline(found: Figures) -> str:
    """CPU per call of each contender, without latency and with a second."""
    latencies = [key for key in found if key.startswith("latency")]
    names = list(found[latencies[0]])
    head = ["", *(f"{key}: CPU per call, over the bare client" for key in latencies)]
    lines = [
        [
            name,
            *(
                f"{at['cpu_ms_per_call']:.2f} ms, {at['over_bare']:.2f} "
                f"({at['over_bare_of_rounds'][0]:.2f}-{at['over_bare_of_rounds'][-1]:.2f}), "
                f"{at['calls_per_s_per_core']:,} calls/s a core"
                for at in (found[key][name] for key in latencies)
            ),
        ]
        for name in names
    ]
    chart = pygal.HorizontalBar(
        style=STYLE,
        js=(),
        width=860,
        height=380,
        legend_at_bottom=True,
        print_values=True,
        title="CPU per gateway call, milliseconds",
    )
    chart.x_labels = names
    for key in latencies:
        chart.add(key, [found[key][name]["cpu_ms_per_call"] for name in names])
    return rows(head, lines) + draw("pipeline", chart)


def dispatch(found: Figures) -> str:
    """CPU, wall and memory of opening and publishing a slice; the loop is what people write."""
    lines = [
        [
            *key.split(", "),
            f"{at['cpu_s']:.2f} s",
            f"{at['cpu_us_per_agent']:.0f} µs",
            f"{at['wall_s']:.2f} s",
            f"{at['memory_mb']:.0f} MB",
        ]
        for key, at in found.items()
    ]
    sizes = list(dict.fromkeys(int(key.split()[0]) for key in found))
    chart = pygal.Line(
        style=STYLE,
        js=(),
        width=860,
        height=380,
        legend_at_bottom=True,
        logarithmic=True,
        title="Wall time of telling all due agents, seconds",
        x_title="agents",
    )
    chart.x_labels = [f"{size:,}" for size in sizes]
    chart.y_labels = [0.01, 0.1, 1, 10, 100]
    for way in ("slice", "loop"):
        for far in ("0 ms", "2 ms"):
            times = (found.get(f"{size} agents, {far}, {way}") for size in sizes)
            chart.add(f"{way}, Redis {far} away", [at and at["wall_s"] for at in times])
    head = ["", "Redis away", "way", "CPU", "CPU per agent", "wall", "memory"]
    return rows(head, lines) + draw("dispatch", chart)


def adhoc(found: Figures) -> str:
    """How soon a run that a person starts is taken."""
    head = ["", "taken after: median, most", "its first call booked: median, most"]
    return rows(
        head,
        (
            [
                key,
                f"{1000 * at['taken_s_median']:.0f} ms, {1000 * at['taken_s_most']:.0f} ms",
                f"{1000 * at['first_call_booked_s_median']:.0f} ms, "
                f"{1000 * at['first_call_booked_s_most']:.0f} ms",
            ]
            for key, at in found.items()
        ),
    )


def memory(found: Figures) -> str:
    """RSS of a worker."""
    return rows(
        ["", "idle", "with these in flight", "after them", "per call in flight"],
        (
            [
                key,
                f"{at['idle_mb']:.0f} MB",
                f"{at['rss_mb']:.0f} MB",
                f"{at['after_mb']:.0f} MB",
                f"{at['kb_per_call_in_flight']:.0f} KB",
            ]
            for key, at in found.items()
        ),
    )


def growth(found: Figures) -> str:
    """A cycle, reports and pages at each size: queries and milliseconds."""
    sizes = list(found)
    lines = [["opening a cycle: CPU per agent", *(per_agent(found[size]["cycle"]) for size in sizes)]]
    lines.append(["a round of the rollups", *(f"{found[s]['cycle']['roll_up_ms']:.0f} ms" for s in sizes)])
    for part in ("reports", "pages"):
        for name in found[sizes[0]][part]:
            lines.append(
                [f"`{name}`" if name.startswith("/") else name]
                + [
                    f"{found[size][part][name]['queries']} queries, {found[size][part][name]['p50_ms']} ms"
                    for size in sizes
                ]
            )
    return rows(["", *sizes], lines)


def per_agent(cycle: Figures) -> str:
    """Return the cost of opening all slices of a cycle, for one of its agents."""
    return f"{cycle['queries']} queries, {1000 * cycle['cpu_ms'] / cycle['runs']:.0f} µs"


def pages(found: Figures) -> str:
    """Every page over the largest fleet and ledger."""
    lines = ([f"`{path}`", at["queries"], at["p50_ms"], at["p95_ms"]] for path, at in found["pages"].items())
    return rows(["page", "queries", "p50", "p95"], lines)


def soak(found: Figures) -> str:
    """Memory, calls and latency by quarter of the time."""
    head = ["", *(f"quarter {number}" for number in range(1, 5))]
    lines = [["calls a second", *found["calls_per_s_by_quarter"]]]
    lines += [[f"{name}, ms", *quarters] for name, quarters in found["latency_by_quarter"].items()]
    lines += [[f"{name}, MB", *quarters] for name, quarters in found["memory_mb_by_quarter"].items()]
    return rows(head, lines)


TABLES: dict[str, Callable[[Figures], str]] = {
    "pipeline": pipeline,
    "dispatch": dispatch,
    "adhoc": adhoc,
    "memory": memory,
    "growth": growth,
    "pages": pages,
    "soak": soak,
}

if __name__ == "__main__":
    main()
