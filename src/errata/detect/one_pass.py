"""One lean pass over probabilities: the given class and the best other one, and nothing dearer.

`errata.detect.probabilities.scan` keeps entropies and sums by class as well, at many times the
cost. Here every block is copied once, while it lies in the cache of the processor, and no number is
carried from one block to the next: the size of the blocks cannot change a bit. Beside N numbers of
each kind, memory grows with C squared, 8 bytes each, for the comparison of columns with labels.

Shapes: N rows, C classes, n rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from errata.blocks import Blocks
from errata.detect.probabilities import (
    _ROUNDING,
    Probabilities,
    Warned,
    _check_rows,
    _checked_labels,
    _warnings,
)
from errata.errors import SourceError

__all__ = ["OnePass", "one_pass"]

_VALUES = 2**19
"""Numbers in a block: 2 MB in single precision, which stays in the cache."""
_MOST_ROWS = 2**13
_SAME = 1e-12


@dataclass(frozen=True, eq=False)
class OnePass:
    """What one lean pass has kept.

    Attributes:
        given: [N] int64 classes; -1 unlabelled.
        given_prob: [N] probability of the given label; NaN where there is none.
        other: [N] int64 the best class other than the given one; -1 where the row is no number.
        other_prob: [N] its probability; NaN where the row is no number.
        top: [N] int64 the best class; -1 where the row is no number.
        usable: [N] bool: labelled, and the row is made of numbers.
        counts: [C] usable rows by given class.
        warnings: What a user should know.
    """

    given: np.ndarray
    given_prob: np.ndarray
    other: np.ndarray
    other_prob: np.ndarray
    top: np.ndarray
    usable: np.ndarray
    counts: np.ndarray
    warnings: tuple[Warned, ...]

    @property
    def classes(self) -> int:
        """C."""
        return len(self.counts)


class _Best(NamedTuple):
    given_prob: np.ndarray
    other: np.ndarray
    other_prob: np.ndarray
    top: np.ndarray


def one_pass(probs: Blocks, labels: np.ndarray, *, values: int = _VALUES) -> OnePass:
    """Read a table of probabilities once, and refuse what would give a wrong list silently.

    Args:
        probs: [N, C]; rows sum to one up to rounding (.02 in half precision, .002 else).
        labels: [N] class numbers 0 to C - 1; -1 is unlabelled.
        values: Numbers in a block; it changes the time, never the answer.

    Raises:
        SourceError: Lengths differ, labels have no column, rows are no probabilities, or all rows
            are alike.
    """
    given = _checked_labels(labels, probs)
    rows, classes = probs.shape
    given_prob, other_prob = (np.full(rows, np.nan) for _ in range(2))
    other, top = (np.full(rows, -1, dtype=np.int64) for _ in range(2))
    first: np.ndarray | None = None
    alike = True
    for place, block, real in _checked_blocks(probs, values):
        if alike and real.any():
            first = block[real][0].copy() if first is None else first
            alike = bool((np.abs(block[real] - first) < _SAME).all())
        best = _best(block, given[place])
        given_prob[place], other_prob[place] = best.given_prob, best.other_prob
        other[place], top[place] = best.other, best.top
        if not real.all():
            lost = np.flatnonzero(~real) + place.start
            given_prob[lost] = other_prob[lost] = np.nan
            other[lost] = top[lost] = -1
    usable = (given >= 0) & (top >= 0)
    if not usable.any():
        raise SourceError(
            f"{probs.name} has no row that is labelled and made of numbers; allowed: at least two",
            hint="NaN rows and labels of -1 do not count",
        )
    if alike:
        raise SourceError(
            f"all {rows:,} rows of {probs.name} are alike; allowed: rows that differ",
            hint="give what the model says of each sample",
        )
    counts = np.bincount(given[usable], minlength=classes)
    warnings = _hard_warnings(given, top, usable, counts)
    return OnePass(given, given_prob, other, other_prob, top, usable, counts, warnings)


def _checked_blocks(probs: Blocks, values: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Copy one block [n, C] after another into the same room, and tell which rows are numbers."""
    rows, classes = probs.shape
    tolerance = _ROUNDING.get(probs.dtype.itemsize, 2e-3)
    kind = np.float64 if probs.dtype.itemsize == 8 else np.float32
    size = max(1, min(values // classes, _MOST_ROWS, rows))
    room = np.empty((size, classes), dtype=kind)
    for start in range(0, rows, size):
        stop = min(rows, start + size)
        block = room[: stop - start]
        np.copyto(block, probs.read(start, stop))
        real: np.ndarray = np.ones(len(block), dtype=bool)
        # Unlike `sum`, this adds with vector instructions, and in one fixed order.
        sums = np.einsum("ij->i", block)
        # Written so that NaN fails as well.
        if not (block.min() >= -tolerance and (np.abs(sums - 1) <= tolerance).all()):
            real = np.asarray(np.isfinite(block).all(1))
            _check_rows(block.astype(np.float64), real, start, tolerance, probs.name)
        yield slice(start, stop), block, real


def _best(block: np.ndarray, given: np.ndarray) -> _Best:
    """Find the given and the best other probability; the block is used up on the way."""
    each = np.arange(len(block))
    mine = block[each, given]
    block[each, given] = -1.0
    unlabelled = np.flatnonzero(given < 0)
    if len(unlabelled):
        # Their index -1 was that of the last class.
        block[unlabelled, -1] = mine[unlabelled]
        mine[unlabelled] = np.nan
    other = block.argmax(1)
    best = block[each, other]
    # Of equal ones the first counts, as in `argmax`.
    is_given = (mine > best) | ((mine == best) & (given < other))
    return _Best(mine, other, best, np.where(is_given, given, other))


def _hard_warnings(
    given: np.ndarray, top: np.ndarray, usable: np.ndarray, counts: np.ndarray
) -> tuple[Warned, ...]:
    """Warn as `scan` does, from best classes instead of sums of probabilities."""
    classes = len(counts)
    pairs = given[usable] * classes + top[usable]
    predicted = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    nothing = np.empty(0)
    found = Probabilities(
        given, nothing, nothing, nothing, top, nothing, usable, predicted, counts, ()
    )
    return tuple(_warnings(found))
