"""The steps of a recipe as boxes and arrows, for its card and for reports."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

__all__ = ["pipeline_figure"]

_PER_ROW, _WIDTH, _GAP, _LINE, _LETTERS = 3, 208, 32, 18, 27


def pipeline_figure(steps: Sequence[str]) -> str:
    """Draw steps in their order, three in a row.

    Colours are those of the text around, so that it can be read on light and dark pages.

    Args:
        steps: A few words each; one at least.

    Returns:
        An svg element that scales down with the page.
    """
    rows = [steps[i : i + _PER_ROW] for i in range(0, len(steps), _PER_ROW)]
    parts, top = [], 2
    for row in rows:
        boxes = [textwrap.wrap(step, _LETTERS) for step in row]
        height = _LINE * max(map(len, boxes)) + 16
        for place, lines in enumerate(boxes):
            left = 2 + place * (_WIDTH + _GAP)
            parts.append(_box(left, top, height, lines))
            if place:
                middle = top + height / 2
                parts.append(_arrow(left - _GAP + 3, middle, left - 3, middle))
        top += height + _GAP
        if row is not rows[-1]:
            # Back to the left, through the gap between the rows.
            last = 2 + (len(row) - 1) * (_WIDTH + _GAP) + _WIDTH / 2
            path = f"M{last:g} {top - _GAP + 3:g}V{top - _GAP / 2:g}H{_WIDTH / 2:g}V{top - 3:g}"
            parts.append(f'<path d="{path}" fill="none" stroke="currentColor"/>')
            parts.append(_head(_WIDTH / 2, top - 3, "down"))
    width = min(len(steps), _PER_ROW) * (_WIDTH + _GAP) - _GAP + 4
    label = escape(", then ".join(steps))
    return (
        f'<svg viewBox="0 0 {width} {top - _GAP + 2:g}" role="img" aria-label="{label}" '
        f'style="max-width:{width}px;width:100%;font:13px sans-serif">{"".join(parts)}</svg>'
    )


def _box(left: float, top: float, height: float, lines: Sequence[str]) -> str:
    first = top + (height - _LINE * len(lines)) / 2 + 13
    words = "".join(
        f'<text x="{left + _WIDTH / 2:g}" y="{first + _LINE * i:g}" text-anchor="middle" '
        f'fill="currentColor">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{_WIDTH}" height="{height:g}" rx="6" fill="none" '
        f'stroke="currentColor"/>{words}'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    line = f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="currentColor"/>'
    return line + _head(x2, y2, "right")


def _head(x: float, y: float, way: str) -> str:
    back = "l-6 -4v8z" if way == "right" else "l-4 -6h8z"
    return f'<path d="M{x:g} {y:g}{back}" fill="currentColor"/>'
