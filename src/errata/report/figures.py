"""Figures as inline SVG, written by hand.

Their colours are classes of the page's stylesheet, so that one figure reads well on light and
dark paper and in print, and they need no plotting library. Widths are units of the view box; the
page scales them. No element has an id, so figures never clash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from errata.report.svg import nice_ticks, svg, text
from errata.report.words import short, whole

__all__ = [
    "Line",
    "heat_map",
    "interval_strip",
    "line_chart",
    "sparkline",
]

_NARROW = 340
_LEFT, _RIGHT = 46, 14


@dataclass(frozen=True)
class Line:
    """One curve of a line chart; points that are NaN are left out."""

    name: str
    style: str
    ys: Sequence[float]


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    unit: str,
    shares: bool = False,
    marks: Sequence[tuple[int, str]] = (),
) -> str:
    """Draw curves over epochs, which count from 1.

    Args:
        lines: At least one with a finite point.
        label: What the figure says, for people who cannot see it.
        unit: Words under the axis.
        shares: The values are shares of 0 to 1, shown in per cent.
        marks: Epochs to mark, and why.
    """
    head, height = 28 if marks else 10, 165
    bottom = head + height
    length = max(len(line.ys) for line in lines)
    values = np.array([y for line in lines for y in line.ys if math.isfinite(y)])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low = 0.0 if low >= 0 and (not shares or low < 0.3) else low
    high = high if high > low else low + 1.0

    def y_of(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * height, 1)

    def x_of(epoch: float) -> float:
        return round(_LEFT + (epoch - 1) / max(length - 1, 1) * (_NARROW - _LEFT - _RIGHT), 1)

    parts = []
    for tick in nice_ticks(low, high):
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_NARROW - _RIGHT}" y1="{y}" y2="{y}"/>')
        words = f"{100 * tick:g}\u00a0%" if shares else f"{tick:g}"
        parts.append(text(_LEFT - 7, y + 4, words, "tick end"))
    for epoch in (e for e in nice_ticks(1, length, 5) if e == int(e)):
        parts.append(text(x_of(epoch), bottom + 17, f"{epoch:g}", "tick middle"))
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_NARROW - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    )
    for epoch, words in marks:
        x = x_of(epoch)
        parts.append(f'<line class="threshold" x1="{x}" x2="{x}" y1="{head - 6}" y2="{bottom}"/>')
        parts.append(text(x, head - 12, words, "name end" if x > _NARROW * 0.6 else "name"))
    for line in lines:
        points = [(x_of(i + 1), y_of(y)) for i, y in enumerate(line.ys) if math.isfinite(y)]
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if len(points) <= 12:
            dots = (
                f'<circle class="dot {line.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in points
            )
            parts.extend(dots)
    parts.append(text((_NARROW + _LEFT) / 2, bottom + 37, unit, "tick middle"))
    return svg(_NARROW, bottom + 45, label, parts)


def heat_map(
    counts: np.ndarray,
    names: Sequence[str],
    *,
    label: str,
    axes: tuple[str, str] = ("given", "proposed"),
    diagonal: bool = False,
    unit: str = "",
) -> str:
    """Draw how often each class [C, C] stands down the side where another stands across the top.

    Args:
        counts: Whole numbers [C, C].
        names: Of the classes [C].
        label: What the figure says, for people who cannot see it.
        axes: What is down, and what is across.
        diagonal: Shows the numbers of classes with themselves, too.
        unit: Said after a number, such as ``" %"``, where there is room for words.
    """
    size = len(names)
    cell = 36 if size <= 12 else 25 if size <= 20 else 20
    longest = min(max(len(name) for name in names), 17)
    margin, head = max(84, 7 * longest + 24), 6 * longest + 34
    most = max(int(counts.max()), 1)
    parts = [
        text(margin - 10, head - 12, f"{axes[0]} \u2193", "tick end"),
        text(margin - 10, head - 30, f"{axes[1]} \u2192", "tick end"),
    ]
    for i, name in enumerate(names):
        middle = (i + 0.5) * cell
        written = escape(short(name, 17))
        x, y = round(margin + middle + 4, 1), head - 8
        parts.append(
            f'<text class="tick" transform="translate({x} {y}) rotate(-58)">{written}</text>'
        )
        parts.append(text(margin - 10, head + middle + 4, short(name, 17), "tick end"))
    for i in range(size):
        for j in range(size):
            x, y, count = margin + j * cell, head + i * cell, int(counts[i, j])
            if (i == j and not diagonal) or not count:
                parts.append(_square(x, y, cell, "same" if i == j else "none"))
                continue
            # Square roots keep rare pairs visible; the darkest tone still lets the text be read.
            tone = round(0.08 + 0.5 * math.sqrt(count / most), 3)
            said = f"{names[i]} to {names[j]}: {whole(count)}{unit}"
            fits = len(str(count)) * 7 <= cell
            written = text(x + cell / 2, y + cell / 2 + 4, str(count), "count") if fits else ""
            square = _square(x, y, cell, "heat", f' fill-opacity="{tone}"')
            parts.append(f"<g><title>{escape(said)}</title>{square}{written}</g>")
    return svg(margin + size * cell + 60, head + size * cell + 4, label, parts)


def _square(x: int, y: int, cell: int, style: str, more: str = "") -> str:
    side = cell - 2
    place = f'x="{x + 1}" y="{y + 1}" width="{side}" height="{side}"'
    return f'<rect class="{style}" {place}{more}/>'


def sparkline(curve: Sequence[float], typical: Sequence[float], *, top: float, label: str) -> str:
    """Draw the loss of one sample per epoch, over that of a typical one.

    Args:
        curve: Loss per epoch [nats].
        typical: The same of a typical sample; may be empty.
        top: Loss at the upper edge, the same for all samples so that they compare.
        label: What the figure says, for people who cannot see it.
    """
    width, height = 160, 34
    length = max(len(curve), len(typical), 2)

    def path(values: Sequence[float]) -> str:
        points = (
            (i / (length - 1) * (width - 4) + 2, height - 3 - min(v / top, 1.0) * (height - 6))
            for i, v in enumerate(values)
            if math.isfinite(v)
        )
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

    parts = [f'<line class="axis" x1="0" x2="{width}" y1="{height - 1}" y2="{height - 1}"/>']
    if len(typical):
        parts.append(f'<polyline class="line typical" points="{path(typical)}"/>')
    parts.append(f'<polyline class="line this" points="{path(curve)}"/>')
    return svg(width, height, label, parts, kind="spark")


def interval_strip(estimate: float, low: float, high: float, *, label: str) -> str:
    """Draw a share with its interval on an axis from 0 %."""
    top = min(max(high * 1.4, 0.02), 1.0)
    bottom, left, right = 26, 8, _NARROW - 24

    def x_of(share: float) -> float:
        return round(left + min(max(share, 0.0), top) / top * (right - left), 1)

    parts = [f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>']
    for tick in nice_ticks(0, top, 5):
        x = x_of(tick)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}"/>')
        style = "tick middle" if tick else "tick"
        parts.append(text(x if tick else 0, bottom + 19, f"{100 * tick:g}\u00a0%", style))
    width = round(max(x_of(high) - x_of(low), 2.0), 1)
    parts.append(
        f'<rect class="interval" x="{x_of(low)}" y="{bottom - 17}" width="{width}" '
        'height="10" rx="5"/>'
    )
    parts.append(f'<circle class="estimate" cx="{x_of(estimate)}" cy="{bottom - 12}" r="6"/>')
    return svg(_NARROW, bottom + 26, label, parts)
