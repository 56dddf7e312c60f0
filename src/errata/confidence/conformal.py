"""Sets of labels that hold the true one as often as promised, calibrated on noisy labels.

Split conformal prediction takes a threshold from the scores of calibration labels. With wrong
labels among them the threshold is far too high: sets hold the true class, and most others too.
Here every given label stands for all classes at once, with the weights of its row of the inverse
of T: their expectation is the indicator of the true class. So the distribution of the scores of
*true* labels is estimated without bias from noisy ones. It holds where the noise depends on the
class alone; noise that depends on the sample is not covered.

Shapes: N calibration rows, C classes. Low scores are likely labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from errata.confidence.transitions import Floats, inverse_of

__all__ = [
    "adaptive_scores",
    "confidence_at",
    "conformal_curve",
    "conformal_threshold",
    "plain_scores",
    "selective_curve",
    "selective_threshold",
    "threshold_at",
]

_SURE = 1.645
"""Standard errors to the end of a one-sided interval of 95 %."""


def plain_scores(probs: Floats) -> Floats:
    """Score every class by one minus its probability, [N, C]: the smallest sets on average."""
    return 1 - np.asarray(probs, dtype=np.float64)


def adaptive_scores(probs: Floats) -> Floats:
    """Score every class by the probability of all classes at least as likely, [N, C].

    Sets then grow with the difficulty of the row. Source: Romano et al. 2020, arXiv:2006.02544,
    without their randomisation, so that coverage is a little above what was asked for.

    Example:
        >>> adaptive_scores(np.array([[0.5, 0.2, 0.3]])).round(2).tolist()
        [[0.5, 1.0, 0.8]]
    """
    table = np.asarray(probs, dtype=np.float64)
    order = np.argsort(-table, axis=1, kind="stable")
    sums = np.take_along_axis(table, order, axis=1).cumsum(1)
    scores = np.empty_like(table)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


def conformal_threshold(
    scores: Floats,
    labels: NDArray[np.int64],
    *,
    coverage: float = 0.9,
    transition: Floats | None = None,
) -> float:
    """Find the score up to which a label belongs to the set.

    Args:
        scores: Of every class, [N, C], on rows that were not trained on.
        labels: Given labels of these rows, [N].
        coverage: Share of rows whose set shall hold the true class, above 0 and below 1.
        transition: T, [C, C], which has an inverse; None takes the labels to be right.

    Returns:
        The threshold; infinity where there are too few rows, so that sets hold every class.

    Source: Sesia, Wang, Tong 2023, arXiv:2309.05092, for the weights; Vovk et al. 2005 for the
    correction by one row.
    """
    assert 0 < coverage < 1, coverage
    rows = len(scores)
    if transition is None:
        own = np.sort(scores[np.arange(rows), labels])
        place = int(np.ceil((rows + 1) * coverage)) - 1
        return float(own[place]) if place < rows else float("inf")
    limits, shares = conformal_curve(scores, labels, transition=transition)
    return threshold_at(limits, shares, rows=rows, coverage=coverage)


def conformal_curve(
    scores: Floats, labels: NDArray[np.int64], *, transition: Floats
) -> tuple[Floats, Floats]:
    """Estimate how many true labels score at most so much, for every score where that grows.

    Args:
        scores: Of every class, [N, C], on rows that were not trained on.
        labels: Given labels, [N].
        transition: T, [C, C], which has an inverse.

    Returns:
        ``(limits, shares)``, [m] each, both rising: up to the score ``limits[i]`` lie
        ``shares[i]`` of the true labels. A last share may lie a little above 1.

    Example:
        >>> scores = np.array([[0.1, 0.9], [0.7, 0.3]])
        >>> limits, shares = conformal_curve(scores, np.array([0, 1]), transition=np.eye(2))
        >>> limits.tolist(), shares.tolist()
        ([0.1, 0.3], [0.5, 1.0])
    """
    rows, classes = scores.shape
    weights = inverse_of(transition, classes)[labels].ravel()
    order = np.argsort(scores, axis=None, kind="stable")
    share = np.cumsum(weights[order]) / rows
    # Negative weights make it fall here and there; what was reached once counts as reached.
    reached = np.maximum.accumulate(share)
    grows = np.diff(reached, prepend=0.0) > 0
    return np.asarray(scores, dtype=np.float64).ravel()[order[grows]], reached[grows]


def threshold_at(limits: Floats, shares: Floats, *, rows: int, coverage: float) -> float:
    """Read off a curve of `conformal_curve` the score up to which a label belongs to the set.

    Args:
        limits: [m].
        shares: [m].
        rows: How many rows the curve was made from.
        coverage: Above 0 and below 1.

    Returns:
        The threshold; infinity where the curve never reaches the coverage.
    """
    wanted = coverage * (rows + 1) / rows
    place = int(np.searchsorted(shares, wanted - 1e-12))
    return float(limits[place]) if place < len(limits) else float("inf")


def selective_threshold(
    probs: Floats,
    labels: NDArray[np.int64],
    *,
    risk: float,
    transition: Floats | None = None,
    least: int = 50,
) -> float:
    """Find the confidence from which on answers are wrong at most as often as `risk`.

    Args:
        probs: [N, C], on rows that were not trained on.
        labels: Given labels, [N].
        risk: Largest share of wrong answers among those given, 0 to 1.
        transition: T, [C, C]; None takes the labels to be right.
        least: Rows that must be answered: the risk of fewer is a matter of luck.

    The upper end of a 95 % interval of the risk is held against `risk`, so that choosing among
    many thresholds does not choose a lucky one.

    Returns:
        Answer where the highest probability is at least this; infinity where no share of the rows
        can be answered at that risk.
    """
    confidence, highest = selective_curve(probs, labels, transition=transition)
    return confidence_at(confidence, highest, risk=risk, least=least)


def selective_curve(
    probs: Floats, labels: NDArray[np.int64], *, transition: Floats | None = None
) -> tuple[Floats, Floats]:
    """Bound the share of wrong answers among the surest ones, for every number of them.

    Arguments are those of `selective_threshold`.

    Returns:
        ``(confidence, highest)``, [N] each, surest row first: the confidence of the row, and the
        upper end of a one-sided 95 % interval of the share of wrong answers down to it.
    """
    table = np.asarray(probs, dtype=np.float64)
    confidence, best = table.max(1), table.argmax(1)
    right = inverse_of(transition, table.shape[1])[labels, best]
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    means = np.cumsum(1 - right[order]) / answered
    squares = np.cumsum(np.square(1 - right[order])) / answered
    errors = np.sqrt(np.maximum(squares - np.square(means), 0.0) / answered)
    return confidence[order], means + _SURE * errors


def confidence_at(confidence: Floats, highest: Floats, *, risk: float, least: int = 50) -> float:
    """Read off a curve of `selective_curve` the confidence from which on to answer.

    Returns:
        Infinity where no share of the rows can be answered at that risk.
    """
    fine = np.flatnonzero(highest <= risk)
    fine = fine[fine >= least - 1]
    return float(confidence[fine[-1]]) if len(fine) else float("inf")
