"""Scores of single rows from held-out probabilities; higher is more suspicious, 0 to 1.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from errata.detect.probabilities import Probabilities

__all__ = ["SCORES", "entropy_weighted", "log_ratio", "normalised_margin", "self_confidence"]


def self_confidence(given_prob: np.ndarray) -> np.ndarray:
    """Give one minus the probability of the given label.

    Example:
        >>> self_confidence(np.array([0.9, 0.2]))
        array([0.1, 0.8])
    """
    return np.asarray(1.0 - given_prob)


def normalised_margin(given_prob: np.ndarray, other_prob: np.ndarray) -> np.ndarray:
    """Give the margin of the best other class over the given one, brought to 0 to 1.

    Example:
        >>> normalised_margin(np.array([0.7]), np.array([0.2]))
        array([0.25])
    """
    return np.asarray((1.0 + other_prob - given_prob) / 2.0)


def log_ratio(given_prob: np.ndarray, other_prob: np.ndarray) -> np.ndarray:
    """Give the share of the best other class in what it and the given one have together.

    Orders rows as ``log(other / given)`` does, and stays finite where a probability is 0.

    Example:
        >>> log_ratio(np.array([0.25, 0.0]), np.array([0.5, 1.0])).round(4)
        array([0.6667, 1.    ])
    """
    with np.errstate(invalid="ignore"):
        both = given_prob + other_prob
        share = np.where(both > 0, other_prob / np.where(both > 0, both, 1.0), 0.5)
    return np.where(np.isnan(both), np.nan, share)


def entropy_weighted(
    given_prob: np.ndarray, top_prob: np.ndarray, entropy: np.ndarray, classes: int
) -> np.ndarray:
    """Give self-confidence weighed by how sure the model is of the whole row.

    A row that the model finds hard anyway is less suspicious than a sure contradiction:
    ``(1 - given / top) (1 - entropy / ln C)``.

    Example:
        >>> entropy_weighted(np.array([0.0]), np.array([1.0]), np.array([0.0]), 10)
        array([1.])
    """
    sure = 1.0 - entropy / np.log(classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.clip((1.0 - given_prob / top_prob) * sure, 0.0, 1.0))


def _weighted(found: Probabilities) -> np.ndarray:
    top = np.fmax(found.given_prob, found.other_prob)
    return entropy_weighted(found.given_prob, top, found.entropy, found.classes)


SCORES: dict[str, Callable[[Probabilities], np.ndarray]] = {
    "log-ratio": lambda found: log_ratio(found.given_prob, found.other_prob),
    "self-confidence": lambda found: self_confidence(found.given_prob),
    "margin": lambda found: normalised_margin(found.given_prob, found.other_prob),
    "entropy-weighted": _weighted,
}
"""Scores by name; the first is the default: it ranks best or ties in every cell we measured."""
