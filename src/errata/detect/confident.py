"""Confident learning: which classes are confused how often, from held-out probabilities.

Source: Northcutt, Jiang and Chuang 2021, arXiv:1911.00068.

Shapes: N rows, C classes. Matrices [C, C] have the given class down and the true class across.
"""

from __future__ import annotations

import numpy as np

from errata.blocks import Blocks, iterate
from errata.detect.probabilities import Probabilities
from errata.errors import unknown_name

__all__ = [
    "PRUNINGS",
    "calibrated_joint",
    "class_thresholds",
    "confident_classes",
    "confident_joint",
    "prune",
]

_EVEN = 1e-6
"""Slack of the comparison with a threshold, for probabilities in single precision."""
PRUNINGS = ("confident-joint", "argmax", "by-class", "by-noise-rate", "both")


def class_thresholds(found: Probabilities) -> np.ndarray:
    """Give the mean probability of each class over the rows with its label [C]; 1 where none."""
    own = np.diag(found.class_sum)
    return np.where(found.counts > 0, own / np.maximum(found.counts, 1), 1.0)


def confident_classes(probs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Give the class [n] that each row confidently belongs to, -1 for none.

    A row belongs confidently to the class whose probability reaches its threshold. Where several
    do, the row's best class counts, whether it reaches its own or not: the paper takes the best of
    those reached, but its published masks come from this reading.

    Args:
        probs: [n, C].
        thresholds: [C].

    Example:
        >>> confident_classes(np.array([[0.6, 0.4], [0.5, 0.5]]), np.array([0.7, 0.4])).tolist()
        [1, 1]
    """
    reached = probs >= thresholds - _EVEN
    several = reached.sum(1) > 1
    best = np.where(several, probs.argmax(1), reached.argmax(1))
    return np.where(reached.any(1), best, -1)


def confident_joint(probs: Blocks, found: Probabilities) -> tuple[np.ndarray, np.ndarray]:
    """Count rows by given and confident class.

    Returns:
        The counts [C, C] int64, and the confident class of each row [N], -1 for none.
    """
    thresholds = class_thresholds(found)
    belongs = np.full(len(found.given), -1, dtype=np.int64)
    for place, block in iterate(probs):
        belongs[place] = confident_classes(np.nan_to_num(block, nan=-1.0), thresholds)
    belongs[~found.usable] = -1
    counts = np.zeros((found.classes, found.classes), dtype=np.int64)
    sure = belongs >= 0
    np.add.at(counts, (found.given[sure], belongs[sure]), 1)
    return counts, belongs


def calibrated_joint(counts: np.ndarray, given_counts: np.ndarray) -> np.ndarray:
    """Scale confident counts so that every given class has its number of rows [C, C].

    Every class keeps at least one row that is right, and a class without confident rows is taken
    to be right.

    Args:
        counts: [C, C] of `confident_joint`.
        given_counts: [C] rows by given class.

    Example:
        >>> calibrated_joint(np.array([[3, 1], [0, 5]]), np.array([8, 10])).tolist()
        [[6.0, 2.0], [0.0, 10.0]]
    """
    joint = counts.astype(np.float64)
    diagonal = np.arange(len(joint))
    joint[diagonal, diagonal] = np.maximum(joint[diagonal, diagonal], 1.0)
    return np.asarray(joint / joint.sum(1, keepdims=True) * given_counts[:, None])


def prune(
    rule: str,
    probs: Blocks,
    found: Probabilities,
    counts: np.ndarray,
    belongs: np.ndarray,
) -> np.ndarray:
    """Flag rows [N] bool by one of the rules of confident learning.

    ``confident-joint`` takes rows that confidently belong to another class; ``argmax`` those whose
    best class is another; ``by-class`` for each given class as many rows of least self-confidence
    as are estimated to be wrong; ``by-noise-rate`` for each pair of classes as many rows of largest
    margin as are estimated to be confused; ``both`` those that the last two agree on. The last
    three leave out rows whose best class is the given one, as the published masks do.

    Args:
        rule: One of `PRUNINGS`.
        probs: [N, C].
        found: Of the same table.
        counts: [C, C] of `confident_joint`.
        belongs: [N] of `confident_joint`.

    Raises:
        SettingsError: No rule has this name.
    """
    if rule not in PRUNINGS:
        raise unknown_name("rule", rule, PRUNINGS)
    if rule == "confident-joint":
        return np.asarray(found.usable & (belongs >= 0) & (belongs != found.given))
    if rule == "argmax":
        return np.asarray(found.usable & (found.top != found.given))
    joint = calibrated_joint(counts, found.counts)
    flagged = np.asarray(found.top != found.given)
    if rule in ("by-class", "both"):
        flagged = flagged & _by_class(found, joint)
    if rule in ("by-noise-rate", "both"):
        flagged = flagged & _by_noise_rate(probs, found, joint)
    return flagged


def _rounded(joint: np.ndarray) -> np.ndarray:
    """Round a row of counts to whole rows, keeping its sum: largest remainders go up."""
    floor = np.floor(joint)
    missing = np.round(joint.sum(1) - floor.sum(1)).astype(int)
    for row, count in enumerate(missing):
        if count > 0:
            floor[row, np.argsort(floor[row] - joint[row], kind="stable")[:count]] += 1
    return np.asarray(floor, dtype=np.int64)


def _by_class(found: Probabilities, joint: np.ndarray) -> np.ndarray:
    flagged = np.zeros(len(found.given), dtype=bool)
    whole = _rounded(joint)
    for label in range(found.classes):
        members = np.flatnonzero(found.usable & (found.given == label))
        wrong = int(whole[label].sum() - whole[label, label])
        order = np.argsort(found.given_prob[members], kind="stable")
        flagged[members[order[:wrong]]] = True
    return flagged


def _by_noise_rate(probs: Blocks, found: Probabilities, joint: np.ndarray) -> np.ndarray:
    flagged = np.zeros(len(found.given), dtype=bool)
    whole = _rounded(joint)
    for truth in range(found.classes):
        # One column at a time: the table may be larger than the memory.
        column = np.concatenate([block[:, truth] for _, block in iterate(probs)])
        margin = column - found.given_prob
        for label in range(found.classes):
            if label == truth or whole[label, truth] == 0:
                continue
            members = np.flatnonzero(found.usable & (found.given == label))
            order = np.argsort(-margin[members], kind="stable")
            flagged[members[order[: whole[label, truth]]]] = True
    return flagged
