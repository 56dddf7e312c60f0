"""Numbers and names as the terminal shows them."""

from __future__ import annotations

import math
import shlex
from typing import Any

__all__ = ["about", "count", "finite", "number", "percent", "plain", "quoted", "took"]


def took(seconds: float) -> str:
    """Write a measured time.

    Example:
        >>> took(0.31), took(9.2), took(184), took(4000)
        ('0.3 s', '9 s', '3 min 4 s', '1 h 6 min')
    """
    whole = round(seconds)
    if seconds < 5:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """Write an estimated time, no more exactly than it is known.

    Example:
        >>> about(0.3), about(42), about(184), about(9000)
        ('about 1 s', 'about 42 s', 'about 3 min', 'about 2 h 30 min')
    """
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """Write a share of 0 to 1 in per cent, with one decimal.

    Example:
        >>> percent(0.1834)
        '18.3'
    """
    return f"{100 * share:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a measure; ``-`` where there is none.

    Example:
        >>> number(0.98765), number(None)
        ('0.988', '-')
    """
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count(amount: int, one: str, many: str | None = None) -> str:
    """Write how many there are of something.

    Example:
        >>> count(1, "row"), count(1437, "row"), count(2, "class", "classes")
        ('1 row', '1,437 rows', '2 classes')
    """
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def quoted(path: str) -> str:
    """Write a path so that it can be pasted into a shell."""
    return shlex.quote(path)


def plain(text: str) -> str:
    r"""Show characters that a terminal would act on, other than line ends, as codes.

    Example:
        >>> print(plain("a\x1b[31mb"))
        a\x1b[31mb
    """
    if text.isprintable():
        return text
    from errata.writing import as_text

    text = as_text(text)
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def finite(value: Any) -> Any:
    """Make a value fit for JSON: numbers that are not finite become None, paths become text."""
    from errata.writing import as_text

    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, int) else as_text(str(value))
