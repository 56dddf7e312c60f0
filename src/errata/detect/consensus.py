"""Several detectors as one.

Shapes: K detectors, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from errata.detect.base import Detector, Scores, detector_named
from errata.detect.reading import normal_scores, rank_suspicion
from errata.ledger import Ledger

__all__ = ["DEFAULT", "consensus", "default_detectors", "vote"]

DEFAULT = (
    "accumulated_margin",
    "accumulated_loss",
    "disagreement",
    "early_margin",
    "self_confidence",
    "odd",
)
"""What an audit asks, as far as the ledger has the columns. No single one is best everywhere: loss
and confidence lead under random errors, disagreement and early margins under plausible ones."""


def default_detectors(ledger: Ledger) -> list[Detector]:
    """Build the detectors of `DEFAULT` that can read this ledger."""
    found = [detector_named(name) for name in DEFAULT]
    return [detector for detector in found if detector.fits(ledger)]


def consensus(scores: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """Average the normal scores of the ranks of several detectors, and rank again.

    A detector that knows nothing of a row has no say in it. Ranks make detectors of different
    scales equal; normal scores let the extremes weigh more than the middle.

    Args:
        scores: [K] what the detectors said, at least one.
        weights: [K] positive weights; all equal by default.
    """
    assert scores, "a consensus needs at least one detector"
    shares = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = np.zeros(len(scores[0].suspicion))
    mass = np.zeros_like(total)
    for share, each in zip(shares, scores, strict=True):
        normal = normal_scores(rank_suspicion(each.suspicion))
        known = ~np.isnan(normal)
        total[known] += share * normal[known]
        mass[known] += share
    joined = np.where(mass > 0, total / np.maximum(mass, 1e-12), np.nan)
    # Sums in another order differ in the last bits; equal rows have to stay equal.
    suspicion = rank_suspicion(joined.round(9))

    def words(row: int) -> str:
        said = [each for each in scores if not np.isnan(each.suspicion[row])]
        said.sort(key=lambda each: -float(each.suspicion[row]))
        return ", ".join(each.words(row) for each in said[:2])

    return Scores(suspicion, vote([each.proposed for each in scores]), words, "consensus", joined)


def vote(proposals: Sequence[np.ndarray]) -> np.ndarray:
    """Give the class [N] that most detectors propose; on a tie the earlier detector wins.

    Example:
        >>> vote([np.array([1, 2]), np.array([3, -1]), np.array([3, 0])]).tolist()
        [3, 2]
    """
    stack = np.stack(list(proposals))
    votes = np.stack([(stack == each).sum(0) for each in stack])
    return np.asarray(np.take_along_axis(stack, votes.argmax(0)[None], axis=0)[0])
