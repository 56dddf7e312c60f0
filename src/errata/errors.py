"""Every error a user can meet.

    ErrataError
    |-- SourceError            the data cannot be used as they are
    |-- SettingsError          a name, a value or a combination of them is not allowed
    |-- LedgerError            a column or an owner is wrong
    |   `-- LedgerMismatchError   the ledger belongs to other data
    `-- OutputError            a directory cannot be written, or holds something else

A message says what is wrong with the value, what is allowed, and what to do (the hint).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ErrataError",
    "LedgerError",
    "LedgerMismatchError",
    "OutputError",
    "SettingsError",
    "SourceError",
    "unknown_name",
]


class ErrataError(Exception):
    """Base of all errors whose cause is the input; the command line turns them into exit 2.

    Args:
        message: What is wrong, with the value in backticks, and what is allowed.
        hint: What to do about it, without a final full stop.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}\nhint: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class SourceError(ErrataError):
    """The data cannot be used as they are."""


class SettingsError(ErrataError):
    """A name, a value or a combination of them is not allowed."""


class LedgerError(ErrataError):
    """A ledger column or its owner is wrong."""


class LedgerMismatchError(LedgerError):
    """A ledger belongs to other data than those at hand."""


class OutputError(ErrataError):
    """An output cannot be written, or its place holds something else."""


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> SettingsError:
    """Build the error for a mistyped name, with the nearest allowed one as the hint.

    Example:
        >>> print(unknown_name("recipe", "od", ["erm", "odd"]))
        recipe `od` is unknown; allowed: erm, odd
        hint: did you mean `odd`?
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean `{near[0]}`?" if near else "choose one of these"
    return SettingsError(f"{kind} `{name}` is unknown; allowed: {', '.join(names)}", hint=hint)
