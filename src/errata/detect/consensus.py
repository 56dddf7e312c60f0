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
    "probe",
    "accumulated_margin",
    "accumulated_loss",
    "disagreement",
    "early_margin",
    "self_confidence",
    "odd",
)
"""What an audit asks, as far as the ledger has the columns. The probe leads where it is among them:
the others read the same training, which knows the labels it is asked about. Without it no single
one is best everywhere: loss and confidence lead under random errors, disagreement and early margins
under plausible ones."""
_LEADER = "alike"
_LEAD = 5.0
"""Weight of the probe, beside 1 for what looks at features of its own."""
_FOLLOWERS = ("margin", "loss", "disagreement", "early", "confidence", "dropped")
_FOLLOW = 0.01
"""Weight of what reads the training that the probe reads: it settles ties, gives words, and orders
the rows that the probe does not know."""


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
        weights: [K] positive weights; by default all are equal, but that the probe leads.
    """
    assert scores, "a consensus needs at least one detector"
    shares = np.asarray(_default_weights(scores) if weights is None else weights, dtype=np.float64)
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

    proposed = vote([each.proposed for each in scores])
    for leader in scores:
        if leader.kind == _LEADER:
            proposed = np.where(np.isnan(leader.suspicion), proposed, leader.proposed)
    return Scores(suspicion, proposed, words, "consensus", joined)


def _default_weights(scores: Sequence[Scores]) -> list[float]:
    kinds = [each.kind for each in scores]
    if _LEADER not in kinds:
        return [1.0] * len(kinds)
    follow = dict.fromkeys(_FOLLOWERS, _FOLLOW)
    return [_LEAD if kind == _LEADER else follow.get(kind, 1.0) for kind in kinds]


def vote(proposals: Sequence[np.ndarray]) -> np.ndarray:
    """Give the class [N] that most detectors propose; on a tie the earlier detector wins.

    Example:
        >>> vote([np.array([1, 2]), np.array([3, -1]), np.array([3, 0])]).tolist()
        [3, 2]
    """
    stack = np.stack(list(proposals))
    votes = np.stack([(stack == each).sum(0) for each in stack])
    return np.asarray(np.take_along_axis(stack, votes.argmax(0)[None], axis=0)[0])
