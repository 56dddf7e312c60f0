"""One pass over somebody's probabilities: what every score needs, and what makes them useless.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from errata.blocks import Blocks, iterate
from errata.errors import SourceError

__all__ = ["Probabilities", "Warned", "scan"]

_ROUNDING = {2: 0.02, 4: 2e-3, 8: 2e-3}
"""Most that the sum of a row may stray from one, by the bytes of a number."""
_SAME = 1e-12
_MEMORISED = 0.998
_MOVED = 0.3


class Warned(NamedTuple):
    """Something a user should know, with a code for scripts."""

    code: str
    text: str


@dataclass(frozen=True, eq=False)
class Probabilities:
    """What one pass over a table of probabilities has kept.

    Attributes:
        given: [N] int64 classes; -1 unlabelled.
        given_prob: [N] probability of the given label; NaN where there is none.
        other_prob: [N] probability of the best other class.
        other: [N] int64 the best other class.
        top: [N] int64 the best class; -1 where the row is no number.
        entropy: [N] entropy of the row [nats].
        usable: [N] bool: labelled, and the row is made of numbers.
        class_sum: [C, C] sum of the rows by given class: ``class_sum[i]`` of class i.
        counts: [C] usable rows by given class.
        warnings: What a user should know.
    """

    given: np.ndarray
    given_prob: np.ndarray
    other_prob: np.ndarray
    other: np.ndarray
    top: np.ndarray
    entropy: np.ndarray
    usable: np.ndarray
    class_sum: np.ndarray
    counts: np.ndarray
    warnings: tuple[Warned, ...]

    @property
    def classes(self) -> int:
        """C."""
        return len(self.counts)


def scan(probs: Blocks, labels: np.ndarray) -> Probabilities:
    """Read a table of probabilities once, and refuse what would give a wrong list silently.

    Args:
        probs: [N, C]; rows sum to one up to rounding (.02 in half precision, .002 else).
        labels: [N] class numbers 0 to C - 1; -1 is unlabelled.

    Raises:
        SourceError: Lengths differ, labels have no column, rows are no probabilities, or all rows
            are alike.
    """
    given = _checked_labels(labels, probs)
    rows, classes = probs.shape
    shape = (rows,)
    given_prob, other_prob, entropy = (np.full(shape, np.nan) for _ in range(3))
    other, top = (np.full(shape, -1, dtype=np.int64) for _ in range(2))
    class_sum = np.zeros((classes, classes))
    low, high = np.full(classes, np.inf), np.full(classes, -np.inf)
    tolerance = _ROUNDING.get(probs.dtype.itemsize, 2e-3)
    for place, whole in iterate(probs):
        real = np.isfinite(whole).all(1)
        _check_rows(whole, real, place.start, tolerance, probs.name)
        block = whole[real]
        where = np.flatnonzero(real) + place.start
        low = np.minimum(low, block.min(0, initial=np.inf))
        high = np.maximum(high, block.max(0, initial=-np.inf))
        top[where] = block.argmax(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy[where] = -np.where(block > 0, block * np.log(block), 0.0).sum(1)
        own = given[where]
        labelled = own >= 0
        mine, column = where[labelled], own[labelled]
        each = np.arange(len(mine))
        part = block[labelled]
        np.add.at(class_sum, column, part)
        given_prob[mine] = part[each, column]
        part[each, column] = -1.0
        other[mine] = part.argmax(1)
        other_prob[mine] = part[each, other[mine]]
    usable = (given >= 0) & (top >= 0)
    counts = np.bincount(given[usable], minlength=classes)
    if not usable.any():
        raise SourceError(
            f"{probs.name} has no row that is labelled and made of numbers; allowed: at least two",
            hint="NaN rows and labels of -1 do not count",
        )
    if rows < 2 or ((high - low) < _SAME).all():
        raise SourceError(
            f"all {rows:,} rows of {probs.name} are alike; allowed: rows that differ",
            hint="give what the model says of each sample",
        )
    found = Probabilities(
        given, given_prob, other_prob, other, top, entropy, usable, class_sum, counts, ()
    )
    return Probabilities(**{**vars(found), "warnings": tuple(_warnings(found))})


def _checked_labels(labels: np.ndarray, probs: Blocks) -> np.ndarray:
    rows, classes = probs.shape
    if len(labels) != rows:
        raise SourceError(
            f"there are {len(labels):,} labels for {rows:,} rows of {probs.name}; allowed: one "
            "label for each row",
            hint="give both in the same order",
        )
    if classes < 2:
        raise SourceError(
            f"{probs.name} has {classes} column; allowed: one for each of two or more classes",
            hint="for two classes give both probabilities",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        exact = np.issubdtype(labels.dtype, np.floating) and np.isfinite(labels).all()
        if not exact or (labels != np.round(labels)).any():
            raise SourceError(
                f"labels are of type `{labels.dtype}`; allowed: class numbers 0 to {classes - 1}, "
                "-1 for unlabelled",
                hint="number the classes as the columns of the probabilities are ordered",
            )
    given = labels.astype(np.int64)
    if given.max(initial=-1) >= classes or given.min(initial=0) < -1:
        strange = given[(given >= classes) | (given < -1)]
        raise SourceError(
            f"label `{strange[0]}` (and {len(strange) - 1:,} more) has no column in {probs.name}; "
            f"allowed: 0 to {classes - 1}, -1 for unlabelled",
            hint="are the classes numbered from 1, or does the model lack a class?",
        )
    return given


def _check_rows(
    block: np.ndarray, real: np.ndarray, start: int, tolerance: float, name: str
) -> None:
    kept = block[real]
    sums = kept.sum(1)
    outside = (kept < -tolerance).any(1) | (kept > 1 + tolerance).any(1)
    wrong = outside | (np.abs(sums - 1) > tolerance)
    if not wrong.any():
        return
    first = int(np.flatnonzero(wrong)[0])
    row = int(np.flatnonzero(real)[first]) + start
    if outside[first]:
        raise SourceError(
            f"row {row:,} of {name} holds `{kept[first].min():.3g}` to `{kept[first].max():.3g}`; "
            "allowed: probabilities, 0 to 1",
            hint="these look like logits: apply a softmax first",
        )
    raise SourceError(
        f"row {row:,} of {name} sums to `{sums[first]:.4g}`; allowed: 1 up to rounding "
        f"({tolerance:g})",
        hint="give the whole softmax, all classes of it",
    )


def _warnings(found: Probabilities) -> list[Warned]:
    warned = []
    lost = int(((found.given >= 0) & (found.top < 0)).sum())
    if lost:
        warned.append(
            Warned("nan_rows", f"{lost:,} rows hold NaN or infinity; they were left unscored")
        )
    empty = np.flatnonzero(found.counts == 0)
    if len(empty):
        warned.append(
            Warned(
                "empty_class",
                f"{len(empty)} classes have no label, first column {empty[0]}; labels that should "
                "be of them can be found, but their rates cannot be learned",
            )
        )
    if text := _moved_columns(found):
        warned.append(Warned("shuffled_columns", text))
    agreement = float((found.top == found.given)[found.usable].mean())
    if agreement >= _MEMORISED and len(found.given) >= 100:
        warned.append(
            Warned(
                "in_sample",
                f"the model predicts {agreement:.2%} of the given labels: it was probably trained "
                "on them, and then it finds no errors; give held-out probabilities (5 folds), or "
                "use `errata audit`, which watches the training",
            )
        )
    return warned


def _moved_columns(found: Probabilities) -> str:
    """Say so where another order of the columns would fit the labels far better."""
    present = np.flatnonzero(found.counts > 0)
    means = found.class_sum[present] / found.counts[present, None]
    own = float(means[np.arange(len(present)), present].mean())
    best = means.argmax(1)
    moved = best != present
    other = float(means.max(1).mean())
    if len(set(best.tolist())) < len(present) or other - own < _MOVED or moved.mean() <= 0.5:
        return ""
    first = int(present[moved][0])
    return (
        f"columns and labels do not seem to fit: rows labelled {first} have most of their "
        f"probability in column {int(means[moved].argmax(1)[0])}, and {int(moved.sum())} of "
        f"{len(present)} classes are like that; compare the order of the columns with the classes"
    )
