"""A bar chart as SVG: logarithmic, one bar per figure, its spread as a line. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

ROW, TOP, LEFT, WIDTH, RIGHT = 24, 48, 350, 420, 150
COLOURS = ("#2f6f9f", "#c8733a", "#5f8f4e", "#8a5fa0", "#a8903c", "#777777")


class Bar(NamedTuple):
    """One figure. Bars of one ``group`` have one colour; 0 is the first."""

    name: str
    unit: str
    median: float
    least: float
    most: float
    group: int = 0


def drawn(title: str, bars: Sequence[Bar]) -> str:
    """The chart as the text of an SVG file. Each unit has a scale of its own."""
    scales = {unit: _scale([b for b in bars if b.unit == unit]) for unit in {b.unit for b in bars}}
    height = TOP + ROW * len(bars) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="16" y="26" font-size="16">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        parts += _bar(bar, TOP + ROW * number, *scales[bar.unit])
    return "\n".join([*parts, "</svg>\n"])


def _scale(bars: Sequence[Bar]) -> tuple[float, float]:
    """The exponents of ten at the chart's left and right end."""
    positive = [v for b in bars for v in (b.least, b.most) if v > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive)) - 0.3), math.ceil(math.log10(max(positive)))
    return low, max(high, low + 1)


def _bar(bar: Bar, y: int, low: float, high: float) -> list[str]:
    def x(value: float) -> float:
        if value <= 0:
            return LEFT
        return LEFT + WIDTH * max(0.0, (math.log10(value) - low) / (high - low))

    middle = y + ROW // 2
    number = f"{bar.median:,.0f}" if bar.median >= 100 else f"{bar.median:.3g}"
    colour = COLOURS[bar.group % len(COLOURS)]
    return [
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect x="{LEFT}" y="{y + 4}" width="{x(bar.median) - LEFT:.1f}" height="{ROW - 8}"'
        f' fill="{colour}"/>',
        f'<line x1="{x(bar.least):.1f}" x2="{x(bar.most):.1f}" y1="{middle}" y2="{middle}"'
        ' stroke="black"/>',
        f'<text x="{max(x(bar.median), x(bar.most)) + 6:.1f}" y="{middle + 4}">{number} '
        f"{escape(bar.unit)}</text>",
    ]
