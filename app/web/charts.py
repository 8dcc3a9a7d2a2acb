"""Charts as SVG markup for Jinja: axes, units, gaps where there is no data, nothing inline but geometry.

Own and small, because the libraries that draw on the server style inline, which the content policy of
these pages forbids, and leave out what a screen reader needs. Colours are the style sheet's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 200, 56, 24, 28
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - 4, HEIGHT - BOTTOM - TOP


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over a baseline of 0, one for each label; several layers lie on top of each other. A value of None
    is a gap: nothing is known. Pages put the chart's table behind it.
    """

    title: str
    unit: str
    labels: Sequence[str]
    layers: Mapping[str, Sequence[float | None]]

    @property
    def svg(self) -> Markup:
        """The picture. Its name says what it shows and how much at most; the table says it all."""
        sums = [sum(value or 0 for value in column) for column in self._columns]
        top = nice_ceiling(max(sums, default=0))
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}, {escape(self.unit)}, at most {short(top)}">',
            *_grid(top),
        ]
        slot = PLOT_WIDTH / max(1, len(self.labels))
        every = max(1, -(-len(self.labels) // 8))
        for number, (label, column) in enumerate(zip(self.labels, self._columns, strict=True)):
            x = LEFT + slot * number
            parts += self._bar(label, column, x, slot, top)
            if number % every == 0:
                parts.append(
                    f'<text class="axis" x="{x + slot / 2:.1f}" y="{HEIGHT - 6}" '
                    f'text-anchor="middle">{escape(label)}</text>'
                )
        parts.append(f'<text class="axis" x="4" y="12">{escape(self.unit)}</text></svg>')
        return Markup("".join(parts))

    @property
    def _columns(self) -> list[tuple[float | None, ...]]:
        return list(zip(*self.layers.values(), strict=True)) or [(None,) for _ in self.labels]

    def _bar(
        self, label: str, column: Sequence[float | None], x: float, slot: float, top: float
    ) -> Iterator[str]:
        if all(value is None for value in column):
            yield (
                f'<rect class="gap" x="{x:.1f}" y="{TOP}" width="{slot:.1f}" height="{PLOT_HEIGHT}">'
                f"<title>{escape(label)}: nothing is known</title></rect>"
            )
            return
        base = 0.0
        for layer, (name, value) in enumerate(zip(self.layers, column, strict=True)):
            height = PLOT_HEIGHT * (value or 0) / top if top else 0
            base += height
            whose = f", {escape(name)}" if len(self.layers) > 1 else ""
            yield (
                f'<rect class="bar c{layer}" x="{x + slot * 0.1:.1f}" y="{TOP + PLOT_HEIGHT - base:.1f}" '
                f'width="{slot * 0.8:.1f}" height="{height:.1f}">'
                f"<title>{escape(label)}{whose}: {short(value or 0)} {escape(self.unit)}</title></rect>"
            )

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table behind it, a cell for each layer."""
        return [
            (label, ["unknown" if value is None else f"{value:,.6g}" for value in column])
            for label, column in zip(self.labels, self._columns, strict=True)
        ]


def _grid(top: float) -> Iterator[str]:
    for step in range(3):
        value, y = top * step / 2, TOP + PLOT_HEIGHT * (1 - step / 2)
        yield (
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 4}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
        )


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 0 for 0."""
    if value <= 0:
        return 0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)


def short(value: float) -> str:
    """A number for an axis: 1.5k, 20M, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
