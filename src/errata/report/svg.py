"""The few pieces that every figure is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["nice_ticks", "svg", "text"]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Choose about `count` round numbers between `low` and `high`.

    Example:
        >>> nice_ticks(0, 6.3)
        [0.0, 2.0, 4.0, 6.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(m for m in (1, 2, 5, 10) if unit * m >= rough * 0.99)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def text(x: float, y: float, words: str, style: str) -> str:
    """Write words at a place, in a class of the stylesheet."""
    return f'<text class="{style}" x="{round(x, 1)}" y="{round(y, 1)}">{escape(words)}</text>'


def svg(width: int, height: int, label: str, parts: Sequence[str], *, kind: str = "chart") -> str:
    """Put parts together as one picture that scales with the page and says what it shows."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}" style="--w:{width}">{"".join(parts)}</svg>'
    )
