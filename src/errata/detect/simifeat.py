"""SimiFeat: which labels the nearest rows contradict, by a vote or by a rank. No training.

Source: Zhu et al. 2022, "Detecting corrupted labels without training a model to predict",
arXiv:2110.06283. Neighbours are k = 10, nearest by cosine.

Shapes: N rows, C classes, R rounds, k neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from errata.detect.base import Scores
from errata.detect.neighbours import label_counts, neighbour_reason
from errata.detect.reading import rank_suspicion
from errata.errors import SettingsError

__all__ = [
    "Votes",
    "majority",
    "neighbour_scores",
    "neighbour_vote",
    "rank_scores",
    "simifeat_rank",
    "simifeat_vote",
    "wrong_shares",
]

_FLOOR = 1e-8


class Votes(NamedTuple):
    """What neighbours say: arrays in the order of the rows."""

    flagged: np.ndarray
    """[N] bool."""
    proposed: np.ndarray
    """[N] class with the most neighbours; -1 where it is the given one."""


def neighbour_vote(counts: np.ndarray, given: np.ndarray) -> Votes:
    """Flag rows whose label is not the most frequent one among their neighbours.

    Where the given label is among several most frequent ones, the row is not flagged; of several
    others the lowest class is proposed. The paper leaves ties open; this is our choice.

    Args:
        counts: [N, C] labels of the neighbours, or weights of them.
        given: [N] class numbers; -1 is never flagged, and proposed the most frequent label.

    Example:
        >>> neighbour_vote(np.array([[3, 1], [1, 3], [2, 2]]), np.array([0, 0, 1])).flagged
        array([False,  True, False])
    """
    rows = np.arange(len(given))
    best = counts.argmax(1)
    own = np.where(given >= 0, counts[rows, np.maximum(given, 0)], -1)
    agrees = own >= counts[rows, best]
    return Votes((given >= 0) & ~agrees, np.where(agrees, -1, best))


def rank_scores(counts: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give minus the logarithm [N] of the share of neighbours with the given label.

    Args:
        counts: [N, C] labels of the neighbours, or weights of them.
        given: [N] class numbers; -1 gets NaN.

    Returns:
        0 (all neighbours agree) to 18.4 (none does), in nats.
    """
    rows = np.arange(len(given))
    total = np.maximum(counts.sum(1), 1e-300)
    share = counts[rows, np.maximum(given, 0)] / total
    # The sum exceeds 1 by the floor where all agree.
    score = np.maximum(-np.log(share + _FLOOR), 0.0)
    return np.asarray(np.where(given >= 0, score, np.nan))


def wrong_shares(T: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Give P(the label is wrong | given label) [C] by Bayes' rule.

    Args:
        T: [C, C], T[i, j] = P(given j | true i).
        prior: [C] P(true i).

    Returns:
        0 to 1; 0 for a label that is never given.

    Example:
        >>> wrong_shares(np.array([[0.75, 0.25], [0.0, 1.0]]), np.array([0.5, 0.5])).round(3)
        array([0. , 0.2])
    """
    joint = prior[:, None] * T
    total = joint.sum(0)
    right = np.divide(np.diag(joint), total, out=np.ones_like(total), where=total > 0)
    return np.asarray(np.clip(1 - right, 0.0, 1.0))


def simifeat_rank(scores: np.ndarray, given: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Flag within each given class the rows with the highest scores: its share that is wrong.

    The number is rounded; of equal scores the lower rows are taken. The published code takes all
    rows from a percentile on, ties included, and at least 5 % of every class, so that it always
    flags; a class without errors here has none flagged.

    Args:
        scores: [N] from `rank_scores`; NaN is never flagged.
        given: [N] class numbers, -1 for none.
        shares: [C] share of each given class that is wrong, from `wrong_shares`.
    """
    flagged = np.zeros(len(given), dtype=bool)
    for label, share in enumerate(np.asarray(shares).tolist()):
        rows = np.flatnonzero((given == label) & ~np.isnan(scores))
        order = rows[np.argsort(-scores[rows], kind="stable")]
        flagged[order[: round(share * len(rows))]] = True
    return flagged


def majority(flags: np.ndarray) -> np.ndarray:
    """Flag rows [N] that more than half of the rounds [R, N] flag.

    Rounds are independent looks at the same rows: the paper takes the features of 21 differently
    cropped and flipped views.

    Raises:
        SettingsError: There is no round.
    """
    if not len(flags):
        raise SettingsError(
            "there are `0` rounds; allowed: 1 or more", hint="give one view at least"
        )
    return np.asarray(2 * np.asarray(flags, dtype=np.int64).sum(0) > len(flags))


def simifeat_vote(near: np.ndarray, given: np.ndarray, *, classes: int) -> Votes:
    """Flag by the vote of neighbours [N, k] (SimiFeat-V)."""
    return neighbour_vote(label_counts(near, given, classes=classes), given)


def neighbour_scores(
    near: np.ndarray,
    given: np.ndarray,
    *,
    classes: int,
    names: tuple[str, ...] | None = None,
    ids: tuple[str, ...] | None = None,
) -> Scores:
    """Rank rows by the share of their neighbours that have another label.

    The order is that of `rank_scores`, which grows as the share does.

    Args:
        near: [N, k] labelled rows, at least one column.
        given: [N] class numbers, -1 for none.
        classes: C.
        names: Of the classes, for the reasons; numbers otherwise.
        ids: Of the rows, for the reasons; row numbers otherwise.
    """
    counts = label_counts(near, given, classes=classes)
    own = counts[np.arange(len(given)), np.maximum(given, 0)]
    share = np.where(given >= 0, 1 - own / near.shape[1], np.nan)

    def words(row: int) -> str:
        return neighbour_reason(
            row,
            near[row],
            given,
            name=str if names is None else names.__getitem__,
            key=str if ids is None else ids.__getitem__,
        ).text

    proposed = neighbour_vote(counts, given).proposed
    return Scores(rank_suspicion(share), proposed, words, "neighbours", share)
