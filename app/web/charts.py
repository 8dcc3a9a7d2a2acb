"""Charts as SVG markup for Jinja: axes, units, gaps where there is no data, nothing inline but geometry.

Own and small, because the libraries that draw on the server style inline, which the content policy of
these pages forbids, and leave out what a screen reader needs. Colours are the style sheet's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 200, 56, 24, 28


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `value` None is a gap: nothing is known."""

    label: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over a baseline of 0; pages put their table behind them."""

    title: str
    unit: str
    bars: Sequence[Bar]

    @property
    def svg(self) -> Markup:
        """The picture. Its name says what it shows and how much at most; the table says it all."""
        top = nice_ceiling(max((bar.value or 0 for bar in self.bars), default=0))
        plot_width, plot_height = WIDTH - LEFT - 4, HEIGHT - BOTTOM - TOP
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(self.title)}, {escape(self.unit)}, at most {short(top)}">'
        ]
        for step in range(3):
            value, y = top * step / 2, TOP + plot_height * (1 - step / 2)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 4}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="axis" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
            )
        slot = plot_width / max(1, len(self.bars))
        every = max(1, -(-len(self.bars) // 8))
        for number, bar in enumerate(self.bars):
            x = LEFT + slot * number
            if bar.value is None:
                parts.append(
                    f'<rect class="gap" x="{x:.1f}" y="{TOP}" width="{slot:.1f}" height="{plot_height}">'
                    f"<title>{escape(bar.label)}: nothing is known</title></rect>"
                )
            else:
                height = plot_height * bar.value / top if top else 0
                parts.append(
                    f'<rect class="bar" x="{x + slot * 0.1:.1f}" y="{TOP + plot_height - height:.1f}" '
                    f'width="{slot * 0.8:.1f}" height="{height:.1f}">'
                    f"<title>{escape(bar.label)}: {short(bar.value)} {escape(self.unit)}</title></rect>"
                )
            if number % every == 0:
                parts.append(
                    f'<text class="axis" x="{x + slot / 2:.1f}" y="{HEIGHT - 6}" '
                    f'text-anchor="middle">{escape(bar.label)}</text>'
                )
        parts.append(f'<text class="axis" x="4" y="12">{escape(self.unit)}</text></svg>')
        return Markup("".join(parts))

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The table behind it."""
        return [(bar.label, "unknown" if bar.value is None else f"{bar.value:,.6g}") for bar in self.bars]


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
