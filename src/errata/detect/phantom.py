"""The phantom null: what training makes of a random second label that it never learns.

Its statistic shows how a wrong label looks, in the very network and schedule at hand. The labels in
use differ from it in one way: training memorises them a little, so their margins are higher. That
shift is fitted; how well the shifted null then matches tells whether the errors look random.

Shapes: N rows, M null values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import (
    averaged_probs,
    column,
    given_labels,
    labelled,
    mean_per_view,
    proposed_classes,
)
from errata.ledger import Ledger

__all__ = ["NullFit", "fit_null", "isotonic", "null_posterior", "phantom_margins"]

_TOPS = (0.9, 0.75, 0.6, 0.45, 0.3)
_PARTS = 10
_SHIFTS = np.linspace(-0.1, 0.6, 71)
_FEW_DROPPED = 0.02


@dataclass(frozen=True)
class NullFit:
    """How the null explains the low end of what was observed.

    Attributes:
        rate: Share of observed rows that are like the null, 0 to 1.
        shift: What was added to the null values, in the unit of the statistic.
        misfit: Largest difference of the two distributions over the compared part, 0 to 1.
        count: Observed rows in the compared part.
        spread: How far estimates from other parts of the null lie apart.
    """

    rate: float
    shift: float
    misfit: float
    count: int
    spread: float

    @property
    def trust(self) -> float:
        """How far the errors look like random labels: 0 (no) to 1 (yes).

        The bounds come from runs on digits, Fashion-MNIST and CIFAR-10: misfit was .02 to .05 for
        uniform noise, .11 for human labels with 41 % errors, and above .3 for all else.
        """
        if self.count < 30:
            return 0.0
        sampling = 0.5 / np.sqrt(self.count)
        return float(np.clip((0.22 - (self.misfit - sampling)) / 0.1, 0, 1))


def fit_null(observed: np.ndarray, null: np.ndarray) -> NullFit:
    """Shift the null to match the low end of the observed values, and read off its share.

    Where only wrong labels lie, the observed distribution is the share of wrong labels times that
    of the null. A right shift therefore makes the ratio of the two the same in every part of the
    null's lower end. How far up that end reaches depends on how well right and wrong labels are
    apart: of the widest three ends that match, the middle estimate counts; where none matches, the
    one that comes nearest. Source: the estimator of Storey 2002 with a fitted location; using
    labels that are never trained on as the null is our idea.

    Args:
        observed: [N] margins of the given labels.
        null: [M] margins of labels that were never trained on.
    """
    if not len(observed) or not len(null):
        return NullFit(0.0, 0.0, 1.0, 0, 0.0)
    ordered = np.sort(observed)
    fits = [_fit_below(ordered, null, top) for top in _TOPS]
    matching = [fit for fit in fits if fit.misfit <= 0.04 + 0.5 / np.sqrt(max(fit.count, 1))][:3]
    if not matching:
        return min(fits, key=lambda fit: fit.misfit)
    matching.sort(key=lambda fit: fit.rate)
    spread = matching[-1].rate - matching[0].rate
    return replace(matching[len(matching) // 2], spread=spread)


def _fit_below(values: np.ndarray, null: np.ndarray, top: float) -> NullFit:
    """Fit the part of the null below its quantile `top` to ordered values."""
    edges = np.quantile(null, np.linspace(0, top, _PARTS + 1)[1:])
    shifts = _SHIFTS * abs(float(np.median(null)))
    below = np.searchsorted(values, edges[None] + shifts[:, None], side="right")
    total = np.maximum(below[:, -1:], 1)
    misfit = np.abs(below / total - np.arange(1, _PARTS + 1) / _PARTS).max(1)
    best = int(misfit.argmin())
    count = int(below[best, -1])
    rate = min(1.0, count / (top * len(values)))
    return NullFit(
        rate, float(shifts[best]), float(misfit[best]), count, rate * float(misfit[best])
    )


def null_posterior(observed: np.ndarray, null: np.ndarray, fit: NullFit) -> np.ndarray:
    """Give the probability [N] that each observed value comes from the shifted null.

    It is rate * f_null / f_observed by Bayes' rule, made to fall as the margin grows.

    Args:
        observed: [N] margins.
        null: [M] margins of labels that were never trained on.
        fit: What `fit_null` gave.
    """
    if not len(observed) or not len(null) or fit.rate == 0:
        return np.zeros(len(observed))
    bins = int(np.clip(len(observed) // 50, 5, 400))
    edges = np.unique(np.quantile(observed, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, observed, side="right")
    seen = np.bincount(place, minlength=len(edges) + 1) / len(observed)
    null_place = np.searchsorted(edges, null + fit.shift, side="right")
    expected = np.bincount(null_place, minlength=len(edges) + 1) / len(null)
    share = np.minimum(1.0, fit.rate * expected / np.maximum(seen, 1e-12))
    return isotonic(-share, seen + 1e-12)[place] * -1


def isotonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Give the nearest sequence that never falls (weighted least squares).

    Source: the pool-adjacent-violators algorithm.

    Example:
        >>> isotonic(np.array([1.0, 3.0, 2.0]), np.ones(3)).tolist()
        [1.0, 2.5, 2.5]
    """
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, size = value, weight, 1
        while means and means[-1] >= mean:
            joined = masses[-1] + mass
            mean = (means.pop() * masses[-1] + mean * mass) / joined
            mass, size = masses.pop() + mass, size + sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(np.array(means), sizes)


def phantom_margins(ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """Give the averaged margins of the given labels [N], and those of the null [M].

    Second labels that the network predicts are left out: they may be the true ones. Where many
    rows left training early, only their second labels count, since the rows that stayed were
    averaged over other epochs.
    """
    times = column(ledger, "times_seen")
    observed = labelled(ledger, mean_per_view(column(ledger, "margin_sum"), times))
    null = labelled(ledger, mean_per_view(column(ledger, "phantom_margin_sum"), times))
    probs = averaged_probs(ledger)
    if probs is not None and ledger.has("phantom"):
        null[np.nan_to_num(probs).argmax(1) == column(ledger, "phantom")] = np.nan
    if ledger.has("dropped"):
        dropped = column(ledger, "dropped").astype(bool)
        if dropped[given_labels(ledger) >= 0].mean() > _FEW_DROPPED:
            null[~dropped] = np.nan
    return observed, null[~np.isnan(null)]


@register_detector("phantom")
@final
class Phantom(Detector):
    """Probability that a row's margin is that of a random label."""

    reads = ("margin_sum", "phantom_margin_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Score rows by the null."""
        self.check(ledger)
        observed, null = phantom_margins(ledger)
        known = ~np.isnan(observed)
        posterior = np.full(len(observed), np.nan)
        values = observed[known]
        posterior[known] = null_posterior(values, null, fit_null(values, null))
        return Scores(
            posterior,
            proposed_classes(ledger),
            lambda row: f"looks like a random label with probability {posterior[row]:.2f}",
            "phantom",
            posterior,
        )
