"""Mixtures of two beta distributions: over all rows, and one per class with a shared prior.

Shapes: N rows, G groups of rows, k components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from errata.detect.reading import rows_by_group

__all__ = [
    "BetaGroups",
    "BetaMixture",
    "beta_shape",
    "fit_beta_groups",
    "fit_beta_mixture",
    "has_two_groups",
    "high_loss_posterior",
    "unit_scale",
]

EDGE = 1e-4
"""Values are kept this far from 0 and 1, where densities are 0 or infinite."""

_HEAPS = 0.75
"""A single beta with both shapes below this has a heap at either end: it is no single group."""

_Shapes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class BetaMixture:
    """Beta distributions with weights, sorted by mean.

    Attributes:
        weights: [k], summing to one.
        alpha: [k] first shape.
        beta: [k] second shape.
        bic: Bayesian information criterion of the fit; lower is better.
    """

    weights: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    bic: float

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """Give the probability [N] that each x [N] in 0 to 1 is of the component with the top mean.

        It never falls as x grows: beyond its maximum the maximum stays.
        """
        order = np.argsort(x, kind="stable")
        shapes = (self.weights, self.alpha, self.beta)
        shares = _shares(_log_densities(np.clip(x[order], EDGE, 1 - EDGE), shapes))[:, -1]
        found = np.empty(len(x))
        found[order] = np.maximum.accumulate(shares)
        return found


def beta_shape(mean: float, variance: float) -> tuple[float, float]:
    """Give the beta distribution that has these moments.

    Example:
        >>> tuple(round(shape, 6) for shape in beta_shape(0.3, 0.01))
        (6.0, 14.0)
    """
    alpha, beta = _shapes(np.array([mean]), np.array([variance]))
    return float(alpha[0]), float(beta[0])


def unit_scale(
    values: np.ndarray, *, low: float = 5.0, high: float = 95.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scale values to 0 to 1 between two percentiles, and say which lie between them.

    Without the percentiles one outlier would press all other rows together. Rows beyond them come
    out as 0 or 1; a fit should leave them out, since they would be heaps of their own.
    Source: Arazo et al. 2019 (arXiv:1904.11238).

    Args:
        values: [N]; NaN stays NaN and is not inside.
        low: Percentile that becomes 0.
        high: Percentile that becomes 1.

    Returns:
        The scaled values [N], and which rows are inside [N] bool; none where all are equal.

    Example:
        >>> scaled, inside = unit_scale(np.array([0.0, 1.0, 2.0, 3.0, 100.0]), low=25, high=75)
        >>> scaled.tolist(), inside.tolist()
        ([0.0, 0.0, 0.5, 1.0, 1.0], [False, True, True, True, False])
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return values.copy(), known
    least, most = np.percentile(values[known], (low, high))
    # Narrower than any difference that matters, and division would overflow.
    if most - least < 1e-9:
        return np.where(known, 0.0, np.nan), np.zeros(len(values), dtype=bool)
    inside = known & (values >= least) & (values <= most)
    return np.clip((values - least) / (most - least), 0, 1), inside


def fit_beta_mixture(x: np.ndarray, k: int = 2, *, rounds: int = 60) -> BetaMixture:
    """Fit `k` beta distributions by expectation and moments.

    Source: Arazo et al. 2019 (arXiv:1904.11238), whose step for the shapes uses moments in place
    of the likelihood; theirs makes 10 rounds.

    Args:
        x: [N] values in 0 to 1.
        k: Number of components.
        rounds: At most so many steps; fewer where nothing changes any more.
    """
    x = np.clip(np.asarray(x, dtype=np.float64), EDGE, 1 - EDGE)
    # Start from equal slices of the range, so that a small group of high values is not lost.
    place = np.minimum((x * k).astype(np.int64), k - 1)
    shares = np.eye(k)[place] + 0.01
    shares /= shares.sum(1, keepdims=True)
    last = -np.inf
    for _ in range(rounds):
        shapes = _from_shares(x, shares)
        logs = _log_densities(x, shapes)
        shares = _shares(logs)
        likelihood = float(np.logaddexp.reduce(logs, axis=1).sum())
        if likelihood - last < 1e-6 * len(x):
            break
        last = likelihood
    weights, alpha, beta = shapes
    bic = (3 * k - 1) * math.log(len(x)) - 2 * likelihood
    order = np.argsort(alpha / (alpha + beta))
    return BetaMixture(weights[order], alpha[order], beta[order], bic)


def has_two_groups(one: BetaMixture, two: BetaMixture) -> bool:
    """Tell whether two components explain the values better than one group would.

    By the information criterion, or because the single beta is itself two heaps: with both shapes
    well below one it has all its mass at the ends, which the criterion alone may prefer to two
    components (our addition). Without a gate, values of a single heap would be cut in halves. It
    does not help against a skewed heap, such as the losses of data without errors: two components
    do explain that one better.
    """
    return two.bic < one.bic or bool(max(one.alpha[0], one.beta[0]) < _HEAPS)


def high_loss_posterior(loss: np.ndarray, *, rounds: int = 60) -> np.ndarray:
    """Give the probability that a loss belongs to the higher of two groups.

    Losses are scaled to 0 to 1 between their 5th and 95th percentile; rows beyond these are left
    out of the fit. Where two groups explain them no better than one, nothing stands out and all
    probabilities are 0.

    Args:
        loss: [N]; NaN stays NaN.
        rounds: At most so many steps of the fit.
    """
    x, inside = unit_scale(loss)
    known = ~np.isnan(x)
    found = np.where(known, 0.0, np.nan)
    if not inside.any():
        return found
    two = fit_beta_mixture(x[inside], rounds=rounds)
    if has_two_groups(fit_beta_mixture(x[inside], 1), two):
        found[known] = two.posterior(x[known])
    return found


@dataclass(frozen=True)
class BetaGroups:
    """Two beta distributions for each of G groups; the second has the higher mean.

    Attributes:
        weights: [G, 2], rows summing to one.
        alpha: [G, 2] first shape.
        beta: [G, 2] second shape.
        two: [G] whether the group is two groups; where it is not, nobody is of the higher one.
    """

    weights: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    two: np.ndarray

    def posterior(self, x: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Give the probability [N] of being of the higher component of one's group.

        Within a group it never falls as x grows.

        Args:
            x: [N] values in 0 to 1.
            group: [N] number of the group of each row.
        """
        x = np.clip(np.asarray(x, dtype=np.float64), EDGE, 1 - EDGE)
        shapes = (self.weights, self.alpha, self.beta)
        shares = _shares(_log_densities(x, shapes, group))[:, 1] * self.two[group]
        for rows in rows_by_group(group):
            rising = rows[np.argsort(x[rows], kind="stable")]
            shares[rising] = np.maximum.accumulate(shares[rising])
        return np.asarray(shares)


def fit_beta_groups(
    x: np.ndarray, group: np.ndarray, *, rounds: int = 10, borrow: float = 20.0
) -> BetaGroups:
    """Fit two beta distributions to each group, with a prior that all groups share.

    Each group adds `borrow` rows that look like the average of all groups to its own, so that a
    group of few rows leans on the others and a group of many does not notice. Which component is
    the higher one is settled by the mean in every round. Source: the mixture of Arazo et al. 2019
    (arXiv:1904.11238); one for each class is IDO's choice, the shared prior is ours.

    Args:
        x: [N] values in 0 to 1.
        group: [N] numbers of groups from 0.
        rounds: Steps of expectation and moments.
        borrow: Rows that a group takes from the average of all.
    """
    x = np.clip(np.asarray(x, dtype=np.float64), EDGE, 1 - EDGE)
    number = int(group.max(initial=-1)) + 1
    middle = np.full(number, 0.5)
    for rows in rows_by_group(group):
        # A class that is hard as a whole has both heaps on one side of one half.
        middle[group[rows[0]]] = np.percentile(x[rows], (1, 99)).mean()
    high = np.where(x < middle[group], 0.01, 0.99)
    shares = np.stack([1 - high, high], axis=1)
    for _ in range(rounds):
        shapes = _from_groups(x, group, shares, number, borrow)
        logs = _log_densities(x, shapes, group)
        shares = _shares(logs)
    together = np.logaddexp(logs[:, 0], logs[:, 1])
    single = _from_groups(x, group, np.ones((len(x), 1)), number, borrow)
    alone = _log_densities(x, single, group)[:, 0]
    gain = np.bincount(group, together - alone, number) + borrow * (together - alone).mean()
    size = np.bincount(group, minlength=number) + borrow
    # Three more numbers have to pay for themselves.
    better = 2 * gain > 3 * np.log(np.maximum(size, 1))
    heaps = np.maximum(single[1], single[2])[:, 0] < _HEAPS
    return BetaGroups(*shapes, better | heaps)


def _from_groups(
    x: np.ndarray, group: np.ndarray, shares: np.ndarray, number: int, borrow: float
) -> _Shapes:
    """Give weights and shapes [G, k], sorted by mean, of components with these shares [N, k]."""
    powers = [shares, shares * x[:, None], shares * x[:, None] ** 2]
    own = [
        np.stack([np.bincount(group, column, number) for column in power.T], axis=1)
        for power in powers
    ]
    everybody = [power.sum(0) + 1e-12 for power in powers]
    weights = own[0] + borrow * everybody[0] / everybody[0].sum() + 1e-12
    weights /= weights.sum(1, keepdims=True)
    size = own[0] + borrow + 1e-12
    mean, square = (
        (mine + borrow * all_rows / everybody[0]) / size
        for mine, all_rows in zip(own[1:], everybody[1:], strict=True)
    )
    alpha, beta = _shapes(mean, square - mean**2)
    order = np.argsort(mean, axis=1, kind="stable")
    weights, alpha, beta = (
        np.take_along_axis(each, order, axis=1) for each in (weights, alpha, beta)
    )
    return weights, alpha, beta


def _shapes(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.clip(mean, EDGE, 1 - EDGE)
    # A narrower variance than that of the edges makes the shape explode.
    alpha = np.maximum(mean * (mean * (1 - mean) / np.maximum(variance, 1e-6) - 1), 1e-2)
    return alpha, alpha * (1 - mean) / mean


def _from_shares(x: np.ndarray, shares: np.ndarray) -> _Shapes:
    size = shares.sum(0) + 1e-12
    means = np.clip((shares * x[:, None]).sum(0) / size, EDGE, 1 - EDGE)
    variances = (shares * (x[:, None] - means) ** 2).sum(0) / size
    alpha, beta = _shapes(means, variances)
    return size / size.sum(), alpha, beta


def _log_densities(x: np.ndarray, shapes: _Shapes, group: np.ndarray | None = None) -> np.ndarray:
    """Log of weight times density [N, k], with shapes [k], or [G, k] and the group of each row."""
    weights, alpha, beta = shapes
    constant = np.log(weights) + _log_gamma(alpha + beta) - _log_gamma(alpha) - _log_gamma(beta)
    if group is not None:
        constant, alpha, beta = constant[group], alpha[group], beta[group]
    logs = (alpha - 1) * np.log(x)[:, None] + (beta - 1) * np.log1p(-x)[:, None]
    return np.asarray(logs + constant)


def _log_gamma(values: np.ndarray) -> np.ndarray:
    return np.asarray(torch.lgamma(torch.from_numpy(values)).numpy())


def _shares(logs: np.ndarray) -> np.ndarray:
    """Probability of each component, along the last axis."""
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))
