"""Mixtures of one number per row: a few normals for margins, and two betas for losses.

Shapes: N rows, G groups of rows, b bins, k components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.beta_mixture import (
    BetaMixture,
    beta_shape,
    fit_beta_mixture,
    high_loss_posterior,
)
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


def fit_normals(centres: np.ndarray, counts: np.ndarray, k: int) -> Normals:
    """Fit `k` normal distributions to each group by expectation and maximisation.

    It begins from several slices of each group and keeps the likeliest fit.

    Args:
        centres: [G, b] middle of each bin.
        counts: [G, b], at least one count per group.
        k: Number of components, at least 2.
    """
    weights = counts / counts.sum(1, keepdims=True)
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
