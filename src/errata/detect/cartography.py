"""Data maps: how sure training was of the given label, and how much that changed.

Shapes: N rows, E epochs.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.curves import align_curves
from errata.detect.reading import column, labelled, proposed_classes, rank_suspicion
from errata.ledger import Ledger

__all__ = ["DataMap", "data_map", "hard_to_learn", "label_probs"]


class DataMap(NamedTuple):
    """Where rows lie on a data map; NaN where a row was never seen."""

    confidence: np.ndarray
    """[N] mean probability of the given label, 0 to 1."""
    variability: np.ndarray
    """[N] its population standard deviation over epochs, 0 to 0.5."""
    correctness: np.ndarray
    """[N] share of epochs in which the given label was predicted."""


def data_map(probs: np.ndarray, correct: np.ndarray, *, burn_out: int = 0) -> DataMap:
    """Place rows on a data map.

    Source: Dataset Cartography (Swayamdipta et al. 2020, arXiv:2009.10795).

    Args:
        probs: [N, E] probability of the given label, oldest epoch first; NaN where it is unknown.
        correct: [N, E] whether the given label was predicted.
        burn_out: Only so many of the first epochs count; 0 takes all.

    Example:
        >>> found = data_map(np.array([[0.2, 0.6, 0.7]]), np.array([[False, True, True]]))
        >>> [round(float(values[0]), 6) for values in found]
        [0.5, 0.216025, 0.666667]
    """
    probs = np.asarray(probs, dtype=np.float64)
    last = burn_out or probs.shape[1]
    probs, correct = probs[:, :last], correct[:, :last]
    known = ~np.isnan(probs)
    count = np.where(known.any(1), known.sum(1), np.nan)
    mean = np.where(known, probs, 0).sum(1) / count
    square = np.where(known, (probs - mean[:, None]) ** 2, 0).sum(1) / count
    return DataMap(mean, np.sqrt(square), (known & correct).sum(1) / count)


def hard_to_learn(found: DataMap) -> np.ndarray:
    """Say how near each row [N] is to the corner of hard rows, 0 to 1.

    That corner is low confidence with low variability: never learned, and never close to it. The
    paper calls it mislabelled or hard and gives no formula; the distance to the corner, with both
    axes scaled to 0 to 1, is ours.
    """
    distance = np.hypot(found.confidence, 2 * found.variability) / np.sqrt(2)
    return np.asarray(1 - distance)


def label_probs(ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """Read the probability of the given label and whether it was predicted, [N, E] each.

    From the curves of `Trajectory` where there are any. `Track` keeps losses only; then the
    probability is exp(-loss), and a label counts as predicted where that is above one half.
    """
    if ledger.has("label_prob_curve") and ledger.has("correct_curve"):
        filled = ledger.filled("label_prob_curve").cpu().numpy()
        probs = align_curves(column(ledger, "label_prob_curve"), filled)
        correct = align_curves(column(ledger, "correct_curve"), filled) > 0.5
    else:
        filled = ledger.filled("loss_curve").cpu().numpy()
        probs = np.exp(-align_curves(column(ledger, "loss_curve"), filled))
        correct = probs > 0.5
    # Where a row left training early, its last epoch must not count again.
    known = np.arange(probs.shape[1]) < filled[:, None]
    return np.where(known, probs, np.nan), correct


@register_detector("cartography")
@final
class Cartography(Detector):
    """Nearness to the corner of the data map where confidence and variability are both low."""

    reads = ("loss_curve",)

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by their nearness to the corner."""
        self.check(ledger)
        found = data_map(*label_probs(ledger))
        corner = labelled(ledger, hard_to_learn(found)).round(9)
        return Scores(
            rank_suspicion(corner),
            proposed_classes(ledger),
            lambda row: (
                f"probability of the given label {found.confidence[row]:.2f} on average, "
                f"{found.variability[row]:.2f} up and down"
            ),
            "cartography",
            found.confidence,
        )
