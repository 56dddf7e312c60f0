"""Mixtures of one number per row: two betas for losses, a few normals for margins.

Shapes: N rows, G groups of rows, b bins, k components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import column, labelled, mean_per_view, proposed_classes
from errata.ledger import Ledger

__all__ = [
    "BetaMixture",
    "Normals",
    "beta_shape",
    "binned",
    "fit_beta_mixture",
    "fit_normals",
    "high_loss_posterior",
]

_EDGE = 1e-4
_ROUNDS = 60
_MANY = 20


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
        shares = _shares(_log_densities(np.clip(x[order], _EDGE, 1 - _EDGE), self))[:, -1]
        found = np.empty(len(x))
        found[order] = np.maximum.accumulate(shares)
        return found


def beta_shape(mean: float, variance: float) -> tuple[float, float]:
    """Give the beta distribution that has these moments.

    Example:
        >>> tuple(round(shape, 6) for shape in beta_shape(0.3, 0.01))
        (6.0, 14.0)
    """
    # A narrower variance than that of the edges makes the shape explode.
    alpha = max(mean * (mean * (1 - mean) / max(variance, 1e-6) - 1), 1e-2)
    return alpha, alpha * (1 - mean) / mean


def fit_beta_mixture(x: np.ndarray, k: int = 2) -> BetaMixture:
    """Fit `k` beta distributions by expectation and moments.

    Source: Arazo et al. 2019 (arXiv:1904.11238), whose step for the shapes uses moments in place
    of the likelihood.

    Args:
        x: [N] values in 0 to 1.
        k: Number of components.
    """
    x = np.clip(np.asarray(x, dtype=np.float64), _EDGE, 1 - _EDGE)
    # Start from equal slices of the range, so that a small group of high values is not lost.
    place = np.minimum((x * k).astype(np.int64), k - 1)
    shares = np.eye(k)[place] + 0.01
    shares /= shares.sum(1, keepdims=True)
    last = -np.inf
    for _ in range(_ROUNDS):
        mixture = _from_shares(x, shares)
        logs = _log_densities(x, mixture)
        shares = _shares(logs)
        likelihood = float(np.logaddexp.reduce(logs, axis=1).sum())
        if likelihood - last < 1e-6 * len(x):
            break
        last = likelihood
    bic = (3 * k - 1) * math.log(len(x)) - 2 * likelihood
    order = np.argsort(mixture.alpha / (mixture.alpha + mixture.beta))
    return BetaMixture(mixture.weights[order], mixture.alpha[order], mixture.beta[order], bic)


def high_loss_posterior(loss: np.ndarray) -> np.ndarray:
    """Give the probability that a loss belongs to the higher of two groups.

    Losses are clipped to their 5th and 95th percentile and scaled to 0 to 1. Where two groups
    explain them no better than one (by the information criterion), nothing stands out and all
    probabilities are 0.

    Args:
        loss: [N]; NaN stays NaN.
    """
    found = np.full(len(loss), np.nan)
    known = ~np.isnan(loss)
    if not known.any():
        return found
    low, high = np.percentile(loss[known], (5, 95))
    # Narrower than any difference that matters, and division would overflow.
    if high - low < 1e-9:
        found[known] = 0.0
        return found
    x = np.clip((loss[known] - low) / (high - low), 0, 1)
    two = fit_beta_mixture(x)
    found[known] = two.posterior(x) if two.bic < fit_beta_mixture(x, 1).bic else 0.0
    return found


@dataclass(frozen=True)
class Normals:
    """Normal distributions with weights for each of G groups, from values counted in bins.

    Attributes:
        weights: [G, k], summing to one.
        means: [G, k].
        deviations: [G, k].
        shares: [G, b, k] probability of each component in each bin.
        likelihood: [G] mean log-likelihood per value.
    """

    weights: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray
    likelihood: np.ndarray


def binned(values: np.ndarray, *, bins: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Count values [N] in equal bins: centres [bins] and counts [bins].

    The outermost 0.1 % at either end are moved to the edge, so that outliers do not set the bins.
    """
    low, high = np.quantile(values, (0.001, 0.999))
    high = max(high, low + 1e-6)
    counts, edges = np.histogram(np.clip(values, low, high), bins, range=(low, high))
    return (edges[1:] + edges[:-1]) / 2, counts.astype(np.float64)


def fit_normals(
    centres: np.ndarray, counts: np.ndarray, k: int, *, start: np.ndarray | None = None
) -> Normals:
    """Fit `k` normal distributions to each group by expectation and maximisation.

    Without `start` it begins from several slices of each group and keeps the likeliest fit.

    Args:
        centres: [G, b] middle of each bin.
        counts: [G, b], at least one count per group.
        k: Number of components, at least 2.
        start: [G, b, k] shares to begin from, with few rounds.
    """
    weights = counts / counts.sum(1, keepdims=True)
    if start is not None:
        return _maximise(centres, weights, start, rounds=15)
    # A start is where the lowest component ends; the others share what is left.
    cuts = [np.arange(1, k) / k] + [
        np.r_[low, low + (1 - low) * np.arange(1, k - 1) / (k - 1)]
        for low in (0.05, 0.15, 0.3, 0.5)
    ]
    fits = [_maximise(centres, weights, _slices(weights, cut), rounds=100) for cut in cuts]
    best = np.argmax([fit.likelihood for fit in fits], axis=0)
    pick = (best, np.arange(len(best)))
    return Normals(
        np.stack([fit.weights for fit in fits])[pick],
        np.stack([fit.means for fit in fits])[pick],
        np.stack([fit.deviations for fit in fits])[pick],
        np.stack([fit.shares for fit in fits])[pick],
        np.stack([fit.likelihood for fit in fits])[pick],
    )


def _slices(weights: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Give bins [G, b] to components by quantiles."""
    place = (np.cumsum(weights, axis=1)[:, :, None] > cut).sum(2)
    shares = np.eye(len(cut) + 1)[place] + 1e-6
    return np.asarray(shares / shares.sum(2, keepdims=True))


def _maximise(centres: np.ndarray, weights: np.ndarray, shares: np.ndarray, rounds: int) -> Normals:
    x = centres[:, :, None]
    middle = (weights * centres).sum(1, keepdims=True)
    spread = (weights * (centres - middle) ** 2).sum(1)
    # A component no wider than a point would swallow all likelihood.
    floor = (4e-4 * spread + 1e-12)[:, None]
    last = np.full(len(weights), -np.inf)
    for _ in range(rounds):
        mass = weights[:, :, None] * shares
        size = mass.sum(1) + 1e-12
        means = (mass * x).sum(1) / size
        variances = (mass * (x - means[:, None]) ** 2).sum(1) / size + floor
        logs = np.log(size / np.sqrt(2 * np.pi * variances))[:, None] - (
            (x - means[:, None]) ** 2 / (2 * variances[:, None])
        )
        peak = logs.max(2, keepdims=True)
        shares = np.exp(logs - peak)
        total = shares.sum(2, keepdims=True)
        shares /= total
        likelihood = (weights * (peak + np.log(total))[:, :, 0]).sum(1)
        if (likelihood - last).max() < 3e-6:
            break
        last = likelihood
    return Normals(size, means, np.sqrt(variances), shares, likelihood)


def _from_shares(x: np.ndarray, shares: np.ndarray) -> BetaMixture:
    size = shares.sum(0) + 1e-12
    means = np.clip((shares * x[:, None]).sum(0) / size, _EDGE, 1 - _EDGE)
    variances = (shares * (x[:, None] - means) ** 2).sum(0) / size
    shapes = np.array([beta_shape(m, v) for m, v in zip(means, variances, strict=True)])
    return BetaMixture(size / size.sum(), shapes[:, 0], shapes[:, 1], math.nan)


def _log_densities(x: np.ndarray, mixture: BetaMixture) -> np.ndarray:
    """Log of weight times density [N, k]."""
    constant = [
        math.log(w) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        for w, a, b in zip(mixture.weights, mixture.alpha, mixture.beta, strict=True)
    ]
    logs = (mixture.alpha - 1) * np.log(x)[:, None] + (mixture.beta - 1) * np.log1p(-x)[:, None]
    return np.asarray(logs + np.array(constant))


def _shares(logs: np.ndarray) -> np.ndarray:
    """Probability of each component, along the last axis."""
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


@register_detector("small_loss_mixture")
@final
class SmallLossMixture(Detector):
    """Probability that a row's averaged loss belongs to the higher of two groups."""

    reads = ("loss_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Score rows by the mixture of losses."""
        self.check(ledger)
        times = column(ledger, "times_seen")
        loss = labelled(ledger, mean_per_view(column(ledger, "loss_sum"), times))
        posterior = high_loss_posterior(loss)
        return Scores(
            posterior,
            proposed_classes(ledger),
            lambda row: f"in the group of high losses with probability {posterior[row]:.2f}",
            "mixture",
            posterior,
        )
