"""Many rows at a glance: suspects of one kind, or near-duplicates, to judge with one action.

A kind is a given class and the class proposed in its place.

Shapes: N rows, S suspects.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from errata.directory import AuditDirectory

__all__ = ["MOST_ROWS", "Kind", "Kinds", "group_of"]

MOST_ROWS = 24
"""Rows that are shown at once."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """Suspects with one given class and one proposed class."""

    given: int
    proposed: int
    count: int
    """How many of them nobody has judged."""


class Kinds:
    """Finds the suspects of each kind that nobody has judged.

    Args:
        audit: What is reviewed.
    """

    def __init__(self, audit: AuditDirectory) -> None:
        issues, self._num_classes = audit.issues, len(audit.ledger.classes)
        given = np.asarray(audit.ledger.given)[issues.rows]
        usable = issues.flagged & (issues.proposed >= 0) & (given >= 0)
        # Worst first, as the issues are.
        self._rows: Ints = issues.rows[usable]
        self._given, self._proposed = given[usable], issues.proposed[usable]
        pairs = self._given.astype(np.int64) * self._num_classes + self._proposed
        self._pairs, self._kind = np.unique(pairs, return_inverse=True)
        self._counts = np.bincount(self._kind, minlength=len(self._pairs))
        self._by_row = np.argsort(self._rows)
        self._sorted_rows = self._rows[self._by_row]

    def all(self, judged: Collection[int], *, most: int) -> list[Kind]:
        """List the kinds with the most suspects, largest first, ties by class.

        Args:
            judged: Rows that somebody has judged.
            most: Kinds at most.
        """
        gone = np.bincount(self._kind[self._places(judged)], minlength=len(self._pairs))
        counts = self._counts - gone
        order = np.argsort(-counts, kind="stable")[:most]
        return [
            Kind(*divmod(int(self._pairs[i]), self._num_classes), count=int(counts[i]))
            for i in order
            if counts[i]
        ]

    def rows(
        self,
        given: int,
        proposed: int,
        judged: Collection[int],
        *,
        most: int,
        after: int | None = None,
    ) -> list[int]:
        """List the suspects of a kind that nobody has judged, worst first.

        Args:
            given: A class.
            proposed: A class.
            judged: Rows that somebody has judged.
            most: Rows at most.
            after: A suspect; only those behind it in the order are listed.
        """
        inside = (self._given == given) & (self._proposed == proposed)
        inside[self._places(judged)] = False
        if after is not None:
            inside[: self._places([after]).max(initial=-1) + 1] = False
        return [int(row) for row in self._rows[inside][:most]]

    def _places(self, judged: Collection[int]) -> Ints:
        """Find the judged rows among the suspects."""
        asked = np.fromiter(judged, dtype=np.int64, count=len(judged))
        near = np.searchsorted(self._sorted_rows, asked)
        found = near < len(self._sorted_rows)
        found[found] = self._sorted_rows[near[found]] == asked[found]
        return self._by_row[near[found]]


def group_of(near: Ints | None, row: int) -> list[int]:
    """List the rows of the group of near-duplicates that a row is in, itself included.

    Args:
        near: [N] numbers of groups; None where nothing was grouped.
        row: 0 to N - 1.

    Example:
        >>> group_of(np.array([0, 1, 0]), 2), group_of(np.array([0, 1, 0]), 1), group_of(None, 1)
        ([0, 2], [1], [1])
    """
    return [row] if near is None else [int(other) for other in np.flatnonzero(near == near[row])]
