"""Better probabilities of being wrong, by what verdicts have shown so far.

Shapes: N rows, n reviewed rows, B bins of rows with like probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from errata.detect.phantom import isotonic

__all__ = ["Recalibration", "recalibrate"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS = 50
_PRIOR_ROWS = 5.0


class Recalibration:
    """Brings probabilities in line with verdicts, without changing their order.

    Bins of equally many rows count as five verdicts at their mean probability, and the verdicts on
    their rows are added; means that fall are then pooled. Few verdicts therefore change little.
    What depends on the probabilities alone is worked out once, so that many rows cost little.

    Args:
        p_wrong: [N]; NaN stays NaN.
    """

    def __init__(self, p_wrong: Floats) -> None:
        self._p_wrong = p_wrong
        self._known = ~np.isnan(p_wrong)
        known = p_wrong[self._known]
        if not len(known):
            known = np.zeros(1)
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]))
        self._place = np.searchsorted(edges, p_wrong, side="right").clip(max=len(edges))
        self._size = len(edges) + 1
        inside = self._place[self._known]
        members = np.maximum(np.bincount(inside, minlength=self._size), 1)
        sums = np.bincount(inside, p_wrong[self._known], minlength=self._size)
        self._prior = sums / members

    def moved(self, wanted: Ints, rows: Ints, wrong: Bools) -> Floats:
        """Give better probabilities of some rows.

        Args:
            wanted: The rows, [k].
            rows: Reviewed rows, [n].
            wrong: What was found of them, [n].

        Returns:
            [k], 0 to 1; in the order of the old ones.
        """
        judged = self._known[rows]
        place = self._place[rows[judged]]
        seen = np.bincount(place, minlength=self._size)
        hits = np.bincount(place, wrong[judged].astype(np.float64), minlength=self._size)
        weights = seen + _PRIOR_ROWS
        means = isotonic((hits + _PRIOR_ROWS * self._prior) / weights, weights)
        shift = means - self._prior
        knots = np.concatenate([[0.0], self._prior, [1.0]])
        ends = np.clip([shift[0], 1 + shift[-1]], [0.0, means[-1]], [means[0], 1.0])
        # Straight lines between the means of the bins keep the order of rows within a bin.
        found: Floats = np.interp(
            self._p_wrong[wanted], knots, np.concatenate([ends[:1], means, ends[1:]])
        )
        return found


def recalibrate(p_wrong: Floats, rows: Ints, wrong: Bools) -> Floats:
    """Bring probabilities of being wrong in line with verdicts, without changing their order.

    Args:
        p_wrong: [N]; NaN stays NaN.
        rows: Reviewed rows, [n].
        wrong: What was found of them, [n].

    Returns:
        [N], 0 to 1.

    Example:
        >>> p, rows = np.full(4, 0.5), np.arange(2)
        >>> recalibrate(p, rows, np.ones(2, bool)).round(4).tolist()
        [0.6429, 0.6429, 0.6429, 0.6429]
    """
    if not len(rows):
        return p_wrong.copy()
    return Recalibration(p_wrong).moved(np.arange(len(p_wrong)), rows, wrong)
