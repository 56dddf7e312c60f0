"""Sources that change one thing about another source and leave the rest to it."""

from __future__ import annotations

import copy
from typing import Any, final

import numpy as np
from torch import Tensor

from errata.types import Source

__all__ = ["Relabelled", "Subset", "stratified_rows"]


@final
class Relabelled:
    """The samples of another source with other given labels.

    The labels of the other source are not kept: where errors are planted, they are the truth, and
    nothing that training can reach may hold them.

    Args:
        source: Where the samples come from.
        given: [N] class numbers; -1 is unlabelled.
        name: How people refer to it; the other source's name by default.

    Example:
        >>> from errata.data import Arrays
        >>> source = Arrays(np.zeros((2, 3), np.float32), np.array([0, 1]), classes=("a", "b"))
        >>> Relabelled(source, np.array([1, 1])).given.tolist(), source.given.tolist()
        ([1, 1], [0, 1])
    """

    def __init__(self, source: Source, given: np.ndarray, *, name: str | None = None) -> None:
        assert np.shape(given) == (len(source.given),), "one label for each row"
        self.source = _without_labels(source)
        self.name = source.name if name is None else name
        self.ids = source.ids
        self.given = np.asarray(given, dtype=np.int64)
        self.classes = source.classes
        self.shape = source.shape
        self.in_memory = source.in_memory

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples of these rows, as the other source gives them."""
        return self.source.pixels(rows)

    def show(self, row: int) -> bytes:
        """Show one row as the other source does."""
        return self.source.show(row)


@final
class Subset:
    """Some rows of another source, numbered anew from 0 in the order given.

    Args:
        source: Where the samples come from.
        rows: [n] rows of `source`.
        name: How people refer to it; the other source's name by default.
    """

    def __init__(self, source: Source, rows: np.ndarray, *, name: str | None = None) -> None:
        self.source = source
        self.rows = np.asarray(rows, dtype=np.int64)
        self.name = source.name if name is None else name
        self.ids = [source.ids[row] for row in self.rows]
        self.given = source.given[self.rows]
        self.classes = source.classes
        self.shape = source.shape
        self.in_memory = source.in_memory

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples of these rows of the subset."""
        return self.source.pixels(self.rows[rows])

    def show(self, row: int) -> bytes:
        """Show one row of the subset."""
        return self.source.show(int(self.rows[row]))


def _without_labels(source: Source) -> Source:
    """Copy a source, pixels shared, with no row labelled."""
    bare: Any = copy.copy(source)
    try:
        bare.given = np.full(len(source.given), -1, dtype=np.int64)
    except AttributeError:
        # A frozen class of the user's, which errata cannot change.
        return source
    if isinstance(bare, Relabelled | Subset):
        bare.source = _without_labels(bare.source)
    same: Source = bare
    return same


def stratified_rows(given: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows so that every class keeps its share, and give them in ascending order.

    Shares are rounded by largest remainder, so exactly `count` rows come out (all of them where
    there are fewer). A class keeps at least one row while `count` allows one for each. Unlabelled
    rows count as a class of their own.

    Args:
        given: [N] class numbers; -1 is unlabelled.
        count: Rows to draw, at least 0.
        rng: Where the choice comes from.

    Example:
        >>> rows = stratified_rows(np.array([0, 0, 0, 0, 1, 1]), 3, np.random.default_rng(0))
        >>> np.array([0, 0, 0, 0, 1, 1])[rows].tolist()
        [0, 0, 1]
    """
    if count >= len(given):
        return np.arange(len(given))
    labels, sizes = np.unique(given, return_counts=True)
    shares = sizes * (count / len(given))
    quota = np.floor(shares).astype(np.int64)
    if count >= len(labels):
        quota = np.maximum(quota, 1)
    # Large remainders gain a row and small ones lose one; a stable sort keeps ties in class order.
    while quota.sum() < count:
        quota[np.argmax(np.where(quota < sizes, shares - quota, -np.inf))] += 1
    while quota.sum() > count:
        quota[np.argmin(np.where(quota > 1, shares - quota, np.inf))] -= 1
    drawn = [
        rng.permutation(np.flatnonzero(given == label))[:size]
        for label, size in zip(labels, quota, strict=True)
    ]
    return np.sort(np.concatenate(drawn))
