"""Several people's labels for the same rows: what most say, and what the reliable ones say.

Answers beyond the classes, such as "maybe", are evidence about a row but never its true class.

Shapes: N rows, A annotators, C classes, V answers (the classes first, then those that are none).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from errata.errors import SettingsError, SourceError

__all__ = ["Consensus", "dawid_skene", "majority", "vote_table"]

_SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class Consensus:
    """What several annotators say together.

    Attributes:
        labels: [N] int64 the most probable class; -1 where nobody labelled the row.
        probs: [N, C] probability of each class to be the true one; NaN where nobody did.
        prior: [C] share of each class among the rows.
        confusion: [A, C, V]: ``confusion[a, i, j]`` = P(annotator a answers j | true i).
        rounds: Steps until the probabilities stood still.
    """

    labels: np.ndarray
    probs: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    rounds: int

    @property
    def accuracy(self) -> np.ndarray:
        """Chance [A] that an annotator names the true class of a random row."""
        return np.asarray(
            np.einsum("aii,i->a", self.confusion[:, :, : len(self.prior)], self.prior)
        )


class _Votes(NamedTuple):
    """All votes as a list: their rows, and their cells of a table [A, V]."""

    row: np.ndarray
    cell: np.ndarray
    annotators: int
    answers: int


def vote_table(
    votes: Any, classes: int | None = None, answers: int | None = None
) -> tuple[np.ndarray, int, int]:
    """Check labels of several annotators [N, A]; gives them with C and V.

    Args:
        votes: Whole numbers 0 to V - 1; -1 where an annotator gave none.
        classes: C; None takes the largest number and one.
        answers: V; None allows no answer beyond the classes.

    Raises:
        SourceError: It is no table of such numbers, or holds no label of a class.
    """
    table = np.asarray(votes)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise SourceError(
            f"votes have the shape `{table.shape}` and the type `{table.dtype}`; allowed: whole "
            "numbers [N, A], one column for each annotator",
            hint="write -1 where an annotator gave no label",
        )
    # Numbers without a sign have no -1 to compare with.
    table = table.astype(np.int64)
    count = int(table.max(initial=-1)) + 1 if classes is None else classes
    said = count if answers is None else max(answers, count)
    if table.min(initial=0) < -1 or table.max(initial=-1) >= said:
        strange = table[(table < -1) | (table >= said)][0]
        raise SourceError(
            f"votes hold `{strange}`; allowed: 0 to {said - 1}, -1 for none",
            hint="number the classes from 0, and answers that are no class after them",
        )
    if not ((table >= 0) & (table < count)).any():
        raise SourceError(
            "votes name no class at all; allowed: at least one label",
            hint="-1 stands for a missing label",
        )
    return table, count, said


def majority(votes: Any, classes: int | None = None, *, answers: int | None = None) -> np.ndarray:
    """Give the class [N] that most annotators named; of equal ones the lowest, -1 without votes.

    Args:
        votes: [N, A] numbers of answers, -1 for none.
        classes: C; None takes the largest number and one.
        answers: V; answers that are no class do not count.

    Example:
        >>> majority(np.array([[1, 1, 0], [2, -1, -1], [-1, -1, -1]])).tolist()
        [1, 2, -1]
    """
    table, count, _ = vote_table(votes, classes, answers)
    counts = _counts(table, count)
    return np.where(counts.any(1), counts.argmax(1), -1)


def dawid_skene(
    votes: Any,
    classes: int | None = None,
    *,
    answers: int | None = None,
    rounds: int = 100,
    tolerance: float = 1e-6,
    borrow: float = 1.0,
) -> Consensus:
    """Find the true classes and how each annotator errs, one from the other.

    Expectation and maximisation begun at the shares of the votes. Each annotator is one confusion
    matrix, errors are independent given the true class. Source: Dawid and Skene 1979. Ours: each
    row of a matrix borrows votes from all annotators' common matrix, so that one who has hardly
    seen a class is not trusted blindly; and answers that are no class. Counting "maybe" as a class
    of its own makes the result worse than the majority wherever no row is truly a "maybe".

    Args:
        votes: [N, A] numbers of answers, -1 for none.
        classes: C; None takes the largest number and one.
        answers: V; None allows no answer beyond the classes.
        rounds: Steps at most, 1 or more.
        tolerance: Stops where no probability moves by more.
        borrow: Votes that each row of a matrix borrows, 0 or more.

    Raises:
        SourceError: The votes are no table of class numbers.
        SettingsError: `rounds` or `borrow` is not allowed.

    Example:
        >>> votes = np.array([[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0]])
        >>> dawid_skene(votes).labels.tolist()
        [0, 1, 0, 1, 0, 1]
    """
    if rounds < 1 or borrow < 0:
        raise SettingsError(
            f"rounds `{rounds}` and borrow `{borrow}` are not allowed; allowed: 1 or more rounds, "
            "and 0 or more votes to borrow",
            hint="the defaults fit most tables",
        )
    table, count, said = vote_table(votes, classes, answers)
    counts = _counts(table, count)
    voted = np.asarray(counts.any(1))
    votes = _listed(table[voted], said)
    probs = counts[voted] / counts[voted].sum(1, keepdims=True)
    prior, confusion = _maximise(votes, probs, borrow)
    step, moved = 0, np.inf
    while step < rounds and moved > tolerance:
        before, probs = probs, _expect(votes, len(probs), prior, confusion)
        prior, confusion = _maximise(votes, probs, borrow)
        step, moved = step + 1, float(np.abs(probs - before).max())
    everyone = np.full((len(voted), count), np.nan)
    everyone[voted] = probs
    labels = np.full(len(voted), -1, dtype=np.int64)
    labels[voted] = probs.argmax(1)
    return Consensus(labels, everyone, prior, confusion, step)


def _counts(votes: np.ndarray, classes: int) -> np.ndarray:
    """Count the votes of each row for each class [N, C]."""
    return np.stack([(votes == each).sum(1) for each in range(classes)], axis=1)


def _listed(votes: np.ndarray, answers: int) -> _Votes:
    """List the votes that were given: most tables are nearly empty."""
    row, annotator = np.nonzero(votes >= 0)
    cell = annotator * answers + votes[row, annotator]
    return _Votes(row, cell, votes.shape[1], answers)


def _maximise(votes: _Votes, probs: np.ndarray, borrow: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit the share of each class, and the confusion of each annotator."""
    size = votes.annotators * votes.answers
    columns = [np.bincount(votes.cell, column[votes.row], size) for column in probs.T]
    joint = np.stack(columns).reshape(-1, votes.annotators, votes.answers).transpose(1, 0, 2)
    # One vote spread over all answers keeps every common row a distribution.
    common = joint.sum(0) + 1 / votes.answers
    common /= common.sum(1, keepdims=True)
    confusion = joint + borrow * common + _SMALLEST
    return probs.mean(0), confusion / confusion.sum(2, keepdims=True)


def _expect(votes: _Votes, rows: int, prior: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Give the probability of each class for each row [N, C]."""
    said = np.log(confusion).transpose(1, 0, 2).reshape(len(prior), -1)
    logs = np.stack([np.bincount(votes.row, each[votes.cell], rows) for each in said], axis=1)
    logs += np.log(prior + _SMALLEST)
    probs = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(probs / probs.sum(1, keepdims=True))
