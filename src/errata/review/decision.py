"""One verdict: what a person decided about a row, and which values make sense."""

from __future__ import annotations

import math
from dataclasses import dataclass

from errata.errors import SettingsError, unknown_name

__all__ = ["VERDICTS", "Verdict", "check", "refuse_other"]

VERDICTS = ("keep", "relabel", "drop", "unsure", "undo")
"""What a person can say about a given label; ``undo`` takes their last word on the row back."""

_MOST_TEXT = 4096
_LARGEST_ROW = 2**63 - 1


@dataclass(frozen=True)
class Verdict:
    """What one person decided about one row, and what they had seen.

    Example:
        >>> Verdict("u1", 7, "cat/7.jpg", "relabel", "lynx", reviewer="ada").label
        'lynx'
    """

    uid: str
    """Made by the client, once per decision: a repeated request counts once."""
    row: int
    """The position in the source, from 0."""
    id: str
    """The key of the user."""
    verdict: str
    """One of `VERDICTS`."""
    label: str | None = None
    """Name of the class that the person chose, for ``relabel`` alone."""
    seconds: float | None = None
    """How long the person looked [s]; None is unknown."""
    reviewer: str = ""
    """Name of the person."""
    blind: bool = False
    """The proposed label was hidden."""
    control: bool = False
    """The row was drawn at random, so that it says something about all others."""
    proposed: str | None = None
    """The proposed label that was shown; None where there was none or it was hidden."""
    when: str = ""
    """UTC, ISO 8601; the journal fills it in where it is empty."""


def check(verdict: Verdict) -> None:
    """Refuse a verdict that makes no sense, whatever the audit.

    Raises:
        SettingsError: A value is not allowed.
    """
    if verdict.verdict not in VERDICTS:
        raise unknown_name("verdict", str(verdict.verdict), VERDICTS)
    if not 0 <= verdict.row <= _LARGEST_ROW:
        raise SettingsError(
            f"row `{verdict.row}` of a verdict is no row; allowed: 0 or more",
            hint="rows count from 0",
        )
    fits = bool(verdict.label) if verdict.verdict == "relabel" else verdict.label is None
    if not fits:
        raise SettingsError(
            f"verdict `{verdict.verdict}` has the label `{verdict.label}`; allowed: a class name "
            "for `relabel`, none for all others",
            hint="send `relabel` with the class, or leave the label out",
        )
    seconds = verdict.seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise SettingsError(
            f"seconds `{seconds}` of a verdict cannot be; allowed: 0 or more, or None",
            hint="leave them out where they are unknown",
        )
    if not verdict.uid:
        raise SettingsError(
            "uid `` of a verdict is empty; allowed: any text that is used once",
            hint="draw a random one per decision",
        )
    for name in ("uid", "id", "label", "reviewer", "proposed", "when"):
        _check_text(name, getattr(verdict, name))


def _check_text(name: str, text: str | None) -> None:
    if text is None:
        return
    shown = text[:40].encode("ascii", "backslashreplace").decode()
    if len(text) > _MOST_TEXT:
        raise SettingsError(
            f"{name} `{shown}...` of a verdict has {len(text):,} characters; "
            f"allowed: {_MOST_TEXT:,}",
            hint="shorten it",
        )
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise SettingsError(
            f"{name} `{shown}` of a verdict is not plain text; allowed: text that UTF-8 can hold",
            hint="see `errata.writing.as_text` for file names with other bytes",
        )


def refuse_other(known: Verdict, new: Verdict) -> None:
    """Refuse a uid that comes again with another decision.

    Raises:
        SettingsError: The row, id, verdict, label or reviewer differs.
    """
    # How a row was shown and for how long is left out: a server that was restarted between a
    # request and its repetition may not recall it, and the decision is the same.
    for name in ("row", "id", "verdict", "label", "reviewer"):
        before, now = getattr(known, name), getattr(new, name)
        if before != now:
            raise SettingsError(
                f"uid `{new.uid}` is already that of another verdict, with {name} `{before}`; "
                f"got {name} `{now}`; allowed: one uid per decision",
                hint="draw a new uid; the earlier verdict stands",
            )
