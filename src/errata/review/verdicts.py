"""What standing verdicts say together: corrected labels, verification labels, minutes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from errata.errors import SettingsError, unknown_name
from errata.review.decision import Verdict

__all__ = ["Correction", "Ruling", "corrected_labels", "minutes", "rulings", "verification"]

Current = Mapping[int, Mapping[str, Verdict]]


class Ruling(NamedTuple):
    """What most reviewers of a row decided."""

    verdict: str
    """``keep``, ``relabel``, ``drop`` or ``unsure``."""
    label: str | None
    """The class, for ``relabel``."""
    reviewers: tuple[str, ...]
    """Who decided so, sorted; on ``unsure`` all who looked."""
    votes: int
    """How many they are."""


class Correction(NamedTuple):
    """A change of a row that most of its reviewers want."""

    label: str | None
    """The new class; None drops the row."""
    reviewers: tuple[str, ...]
    """Who wants it, sorted."""
    votes: int
    """How many they are."""


def rulings(current: Current, classes: Sequence[str]) -> dict[int, Ruling]:
    """Settle every row that somebody looked at, by the most votes.

    Keeping, dropping and each class are the choices. Being unsure is no vote. Without a vote,
    and where two choices have the most, the row is ``unsure``.

    Args:
        current: What `Journal.current` gives: row, reviewer, standing verdict.
        classes: Names of the classes.

    Raises:
        SettingsError: A verdict names no class of the audit.

    Example:
        >>> one, two = (Verdict(who, 3, "c", "drop", reviewer=who) for who in ("bo", "ada"))
        >>> rulings({3: {"bo": one, "ada": two}}, ["cat", "dog"])[3]
        Ruling(verdict='drop', label=None, reviewers=('ada', 'bo'), votes=2)
    """
    known = set(classes)
    found: dict[int, Ruling] = {}
    for row in sorted(current):
        chosen: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        for reviewer, verdict in current[row].items():
            if verdict.verdict == "relabel" and verdict.label not in known:
                raise unknown_name("class", str(verdict.label), classes)
            if verdict.verdict != "unsure":
                chosen[verdict.verdict, verdict.label].append(reviewer)
        most = max(map(len, chosen.values()), default=0)
        winners = [choice for choice, who in chosen.items() if len(who) == most]
        if len(winners) == 1:
            word, label = winners[0]
            who = tuple(sorted(chosen[winners[0]]))
            found[row] = Ruling(word, label, who, len(who))
        elif current[row]:
            who = tuple(sorted(current[row]))
            found[row] = Ruling("unsure", None, who, len(who))
    return found


def corrected_labels(current: Current, classes: Sequence[str]) -> dict[int, Correction]:
    """Collect the rows whose label people change, and those they drop.

    Rows that are kept or unsure are not in it; `rulings` has them too.

    Args:
        current: What `Journal.current` gives.
        classes: Names of the classes.

    Raises:
        SettingsError: A verdict names no class of the audit.

    Example:
        >>> seen = Verdict("u1", 3, "c", "relabel", "dog", reviewer="ada")
        >>> corrected_labels({3: {"ada": seen}}, ["cat", "dog"])
        {3: Correction(label='dog', reviewers=('ada',), votes=1)}
    """
    return {
        row: Correction(ruling.label, ruling.reviewers, ruling.votes)
        for row, ruling in rulings(current, classes).items()
        if ruling.verdict in ("relabel", "drop")
    }


def verification(current: Current, rows: int) -> np.ndarray:
    """Tell which given labels people found right, for ``--verified``.

    Keeping is a vote for right, relabelling and dropping for wrong, whatever the class: people who
    disagree on the right class still agree that the given one is wrong. Being unsure is no vote.

    Args:
        current: What `Journal.current` gives.
        rows: How many rows the audit has, N.

    Returns:
        [N] int8: 1 right, 0 wrong, -1 unknown, which ties are too.

    Raises:
        SettingsError: A verdict is on a row that the audit does not have.

    Example:
        >>> kept = Verdict("u1", 1, "b", "keep", reviewer="ada")
        >>> verification({1: {"ada": kept}}, 3).tolist()
        [-1, 1, -1]
    """
    found = np.full(rows, -1, dtype=np.int8)
    for row, by in current.items():
        if not 0 <= row < rows:
            raise SettingsError(
                f"a verdict is on row `{row}`; allowed: 0 to {rows - 1}",
                hint="the journal belongs to other data; open the audit it was made for",
            )
        votes = [
            verdict.verdict == "keep" for verdict in by.values() if verdict.verdict != "unsure"
        ]
        right = sum(votes)
        if 2 * right != len(votes):
            found[row] = 2 * right > len(votes)
    return found


def minutes(verdicts: Iterable[Verdict]) -> float:
    """Add up the time that people spent, undone verdicts and undos included.

    Args:
        verdicts: What `Journal.all` gives; unknown times count nothing.

    Returns:
        Time [min].

    Example:
        >>> minutes([Verdict("u1", 0, "a", "keep", seconds=90.0), Verdict("u2", 0, "a", "undo")])
        1.5
    """
    return math.fsum(verdict.seconds or 0.0 for verdict in verdicts) / 60
