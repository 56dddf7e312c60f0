"""Whole loss curves: clusters within each given class, and how the number of clusters is chosen.

Shapes: N rows, n rows of one class, E epochs, k clusters, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import (
    column,
    given_labels,
    proposed_classes,
    rank_suspicion,
    rows_by_group,
)
from errata.ledger import Ledger

__all__ = [
    "Plan",
    "align_curves",
    "choose_plan",
    "cluster_curves",
    "moving_average",
    "noisy_curves",
    "prepare_curves",
    "silhouette",
    "vote_noisy",
]

_FEW = 8
_MOST_JUDGED = 1000
_ROUNDS = 50
_STARTS = {2: ((0.5,), (0.8,), (0.95,)), 3: ((1 / 3, 2 / 3), (0.6, 0.9), (0.8, 0.95))}


def align_curves(curves: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Move curves that end early to the front, and go on with their last entry.

    Args:
        curves: [N, E] oldest entry first, filled from the end, as a ring of the ledger is read.
        filled: [N] entries that a row holds; the longest says how many epochs there were.

    Returns:
        [N, E'] float64; NaN where a row holds nothing.

    Example:
        >>> align_curves(np.array([[np.nan, 2.0, 1.0], [5.0, 4.0, 3.0]]), np.array([2, 3])).tolist()
        [[2.0, 1.0, 1.0], [5.0, 4.0, 3.0]]
    """
    longest = int(filled.max(initial=0))
    steps = np.minimum(np.arange(longest)[None], np.maximum(filled[:, None] - 1, 0))
    places = np.clip(curves.shape[1] - filled[:, None] + steps, 0, curves.shape[1] - 1)
    found = np.take_along_axis(curves, places, axis=1).astype(np.float64)
    found[filled == 0] = np.nan
    return found


def moving_average(curves: np.ndarray, window: int = 5) -> np.ndarray:
    """Average each `window` neighbours: [N, E] becomes [N, E - window + 1].

    Curves shorter than the window give their mean.

    Example:
        >>> moving_average(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 11.0]])).tolist()
        [[3.0, 5.0]]
    """
    width = min(window, curves.shape[1])
    total = np.cumsum(np.pad(curves, ((0, 0), (1, 0))), axis=1)
    return np.asarray((total[:, width:] - total[:, :-width]) / width)


def prepare_curves(curves: np.ndarray, classes: int, *, window: int = 5) -> np.ndarray:
    """Limit losses to 2 ln C, so that one epoch does not decide, and smooth them.

    Source: CTRL (Yue and Jha 2022, arXiv:2208.08464).

    Args:
        curves: [N, E] losses [nats].
        classes: C.
        window: Epochs of the moving average.

    Example:
        >>> row = np.array([[9.0, 1.0, 2.0, 1.0, 1.0, 0.0]])
        >>> prepare_curves(row, 10).round(4).tolist()
        [[1.921, 1.0]]
    """
    return moving_average(np.minimum(curves, 2 * math.log(classes)), window)


@dataclass(frozen=True)
class Plan:
    """How curves are cut up.

    Attributes:
        clusters: 2 or 3 for each class.
        noisy: How many of them, those with the largest area, hold the wrong labels.
        windows: Parts of training that are clustered on their own and vote.
    """

    clusters: int = 2
    noisy: int = 1
    windows: int = 1


PLANS = tuple(Plan(k, s, w) for k, w in product((2, 3), (1, 2, 4)) for s in range(1, k))
"""The choices of CTRL: k of 2 or 3, fewer than k noisy clusters, 1, 2 or 4 windows."""


def cluster_curves(curves: np.ndarray, k: int) -> np.ndarray:
    """Find the middles [k, E] of k clusters of curves [n, E], smallest area first.

    k-means from several starts that are cut by area; the tightest result counts. No draw is
    involved, so the order of the rows does not matter.
    """
    area = curves.sum(1)
    best, tightest = np.zeros((k, curves.shape[1])), math.inf
    for cut in _STARTS[k]:
        edges = np.quantile(area, cut)
        place = np.searchsorted(edges, area, side="right")
        middles = _middles(curves, place, k, np.full((k, curves.shape[1]), curves.mean(0)))
        for _ in range(_ROUNDS):
            fresh = _distances(curves, middles).argmin(1)
            if (fresh == place).all():
                break
            place = fresh
            middles = _middles(curves, place, k, middles)
        spread = float(_distances(curves, middles).min(1).sum())
        # A start that is better in the last bits alone would depend on the order of the rows.
        if spread < tightest * (1 - 1e-9):
            best, tightest = middles, spread
    return best[np.argsort(best.sum(1), kind="stable")]


def vote_noisy(curves: np.ndarray, plan: Plan) -> np.ndarray:
    """Give the share of windows [n] in which each curve [n, E] of one class is in a noisy cluster.

    Source: CTRL (Yue and Jha 2022, arXiv:2208.08464); the clusters with the largest area are noisy.
    """
    parts = np.array_split(curves, min(plan.windows, curves.shape[1]), axis=1)
    votes = np.zeros(len(curves))
    for part in parts:
        near = _distances(part, cluster_curves(part, plan.clusters)).argmin(1)
        votes += near >= plan.clusters - plan.noisy
    return votes / len(parts)


def silhouette(curves: np.ndarray, noisy: np.ndarray) -> float:
    """Say how well two groups of curves are apart: the mean silhouette, -1 to 1; 0 for one group.

    Of many rows, 1,000 spread evenly over the areas stand for all.

    Args:
        curves: [n, E].
        noisy: [n] bool.

    Example:
        >>> silhouette(np.array([[0.0], [0.0], [4.0], [4.0]]), np.array([0, 0, 1, 1]) > 0)
        1.0
    """
    if len(curves) > _MOST_JUDGED:
        order = np.argsort(curves.sum(1), kind="stable")
        chosen = order[np.linspace(0, len(order) - 1, _MOST_JUDGED).astype(np.int64)]
        curves, noisy = curves[chosen], noisy[chosen]
    sizes = np.array([(~noisy).sum(), noisy.sum()])
    if sizes.min() == 0:
        return 0.0
    apart = np.sqrt(_distances(curves, curves))
    member = np.stack([~noisy, noisy], axis=1).astype(np.float64)
    total = apart @ member
    mine = noisy.astype(np.int64)
    rows = np.arange(len(curves))
    own = total[rows, mine] / np.maximum(sizes[mine] - 1, 1)
    other = total[rows, 1 - mine] / sizes[1 - mine]
    longer = np.maximum(np.maximum(own, other), 1e-12)
    # By the definition of Rousseeuw, a row that is alone counts nothing.
    return float(np.where(sizes[mine] > 1, (other - own) / longer, 0.0).mean())


def choose_plan(curves: np.ndarray, *, right: np.ndarray | None = None) -> tuple[Plan, np.ndarray]:
    """Try the plans of CTRL on one class, and keep the one whose two groups are furthest apart.

    No label is needed: the measure is the silhouette. With `right` it is multiplied by the share of
    kept rows that training got right and by how much larger the loss of the others is, which is
    CTRL's measure; how the factors enter there was not verified, so the silhouette alone is the
    default. One plan for each class is ours: classes without errors need another one than the rest.

    Args:
        curves: [n, E] prepared losses of one class, without NaN.
        right: [n] whether training predicts the given label, or None.

    Returns:
        The plan, and whether more than half of its windows find a row noisy [n].
    """
    best, chosen, highest = PLANS[0], np.zeros(len(curves), dtype=bool), -math.inf
    for plan in PLANS:
        noisy = vote_noisy(curves, plan) > 0.5
        score = silhouette(curves, noisy)
        if right is not None:
            score *= _gain(curves, noisy, right)
        # What is better in the last bits alone would depend on the order of the rows.
        if score > highest + 1e-9:
            best, chosen, highest = plan, noisy, score
    return best, chosen


def noisy_curves(
    curves: np.ndarray, given: np.ndarray, *, right: np.ndarray | None = None
) -> np.ndarray:
    """Tell which rows [N] have the loss curve of a wrong label, class by class.

    Args:
        curves: [N, E] prepared losses.
        given: [N] class numbers; rows of -1 are never noisy. Classes of fewer than 8 rows are
            clustered together.
        right: As in `choose_plan`.
    """
    noisy = np.zeros(len(given), dtype=bool)
    for rows in rows_by_group(_join_few(given)):
        _, noisy[rows] = choose_plan(curves[rows], right=None if right is None else right[rows])
    return noisy


def _gain(curves: np.ndarray, noisy: np.ndarray, right: np.ndarray) -> float:
    """Accuracy of what is kept, times the loss of the others relative to that of all."""
    if noisy.all() or not noisy.any():
        return 0.0
    ratio = curves[noisy].mean() / max(float(curves.mean()), 1e-12)
    return float(right[~noisy].mean() * ratio)


def _join_few(given: np.ndarray) -> np.ndarray:
    """Give classes of fewer than 8 rows one number together, after all others."""
    counts = np.bincount(given[given >= 0], minlength=1)
    few = counts < _FEW
    return np.where(given >= 0, np.where(few[given], len(counts), given), -1)


def _distances(curves: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Squared distances [n, k]."""
    squares = (curves**2).sum(1)[:, None] + (middles**2).sum(1)[None]
    return np.asarray(np.maximum(squares - 2 * curves @ middles.T, 0))


def _middles(curves: np.ndarray, place: np.ndarray, k: int, before: np.ndarray) -> np.ndarray:
    """Mean curve [k, E] of each cluster; an empty one stays where it was."""
    member = np.eye(k)[place]
    size = member.sum(0)[:, None]
    return np.asarray(np.where(size > 0, member.T @ curves / np.maximum(size, 1), before))


@register_detector("ctrl")
@final
class Ctrl(Detector):
    """Rows whose loss curve is in the higher cluster of their class; among equals, the larger area.

    Source: CTRL (Yue and Jha 2022, arXiv:2208.08464). Its verdict is yes or no; the area that puts
    rows of one verdict in order is what it orders its clusters by.
    """

    reads = ("loss_curve",)

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by the verdict, then by the area under the curve."""
        self.check(ledger)
        filled = ledger.filled("loss_curve").cpu().numpy()
        given = np.where(filled > 0, given_labels(ledger), -1)
        known = np.flatnonzero(given >= 0)
        noisy, area = np.zeros(len(given), dtype=bool), np.full(len(given), np.nan)
        if len(known):
            aligned = align_curves(column(ledger, "loss_curve")[known], filled[known])
            curves = prepare_curves(aligned, len(ledger.classes))
            noisy[known], area[known] = noisy_curves(curves, given[known]), curves.mean(1).round(9)
        highest = 2 * math.log(len(ledger.classes)) + 1
        return Scores(
            rank_suspicion(area + highest * noisy),
            proposed_classes(ledger),
            lambda row: (
                f"losses like the {'higher' if noisy[row] else 'lower'} group of its class, "
                f"{area[row]:.2f} on average"
            ),
            "curves",
            area,
        )
