"""Numbers as people read them. A no-break space stands between a number and its unit."""

from __future__ import annotations

import math
from typing import TypeGuard

__all__ = ["decimal", "duration", "is_number", "likely", "percent", "short", "whole"]

_SPACE = "\u00a0"


def is_number(value: object) -> TypeGuard[float]:
    """Tell a finite number from null, NaN and anything else.

    Example:
        >>> is_number(0.5), is_number(None), is_number(math.nan), is_number(True)
        (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: float) -> str:
    """Write a count with commas.

    Example:
        >>> whole(60000)
        '60,000'
    """
    return f"{round(value):,}"


def percent(share: float, *, unit: bool = True) -> str:
    """Write a share of 0 to 1 in per cent with one decimal; more where it would read as 0 or 100.

    Example:
        >>> [percent(share, unit=False) for share in (0, 0.039, 0.5, 0.0004, 0.9997, 1)]
        ['0', '3.9', '50.0', '0.04', '99.97', '100']
    """
    value = 100 * share
    edge = min(abs(value), abs(100 - value))
    digits = 0 if edge == 0 else 1 if edge >= 0.05 else 2
    return f"{value:.{digits}f}{_SPACE}%" if unit else f"{value:.{digits}f}"


def likely(probability: float) -> str:
    """Write a probability no more exactly than it is known.

    Example:
        >>> [likely(p).split()[:-1] for p in (0.874, 0.9997, 0.002)]
        [['87'], ['over', '99'], ['under', '1']]
    """
    if probability > 0.99:
        return f"over 99{_SPACE}%"
    if probability < 0.01:
        return f"under 1{_SPACE}%"
    return f"{100 * probability:.0f}{_SPACE}%"


def decimal(value: float, digits: int = 3) -> str:
    """Write a number with a true minus sign.

    Example:
        >>> decimal(0.98765), decimal(1.5, 1)
        ('0.988', '1.5')
    """
    return f"{value:.{digits}f}".replace("-", "\u2212")


def duration(seconds: float) -> str:
    """Write a time in its two largest units.

    Example:
        >>> duration(83.4).split(), duration(4.25).split()
        (['1', 'min', '23', 's'], ['4.2', 's'])
    """
    if seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    rounded = round(seconds)
    hours, minutes, rest = rounded // 3600, rounded % 3600 // 60, rounded % 60
    if hours:
        return f"{hours}{_SPACE}h {minutes}{_SPACE}min"
    if minutes:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{rounded}{_SPACE}s"


def short(text: str, length: int) -> str:
    """Cut a text that is too long for its place in a figure.

    Example:
        >>> short("golden retriever", 9)
        'golden r\u2026'
    """
    return text if len(text) <= length else text[: length - 1] + "\u2026"
