"""How labels flow from true to given classes, and what that says of single rows.

Shapes: N rows, n rows of the fit, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import from_numpy

__all__ = ["Flow", "fit_even_flow", "fit_flow", "wrong_odds"]

_MOST_CLASSES = 100
"""Classes up to which T is estimated; beyond, its C squared entries outgrow the rows."""
_SHARPNESS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_ROUNDS = 20
_ROWS = 20_000
_BELIEF = 10.0
"""Rows of every class that are taken to be right before any is looked at; a tenth to the others."""
_LEAST_GAIN = 0.012
"""Nats for each row. Digits and Fashion-MNIST with uniform errors gave .004 to .011, with errors
between certain classes and on CIFAR-10 with human labels .02 to .35."""


class Flow(NamedTuple):
    """How labels come about."""

    sharpness: float
    """Factor that turns the evidence into log-probabilities of true classes."""
    transition: np.ndarray
    """T [C, C], T[i, j] = P(given j | true i), rows summing to one."""
    likelihood: float
    """Mean log-probability of the given labels [nats]."""


def fit_flow(evidence: np.ndarray, given: np.ndarray) -> Flow:
    """Find how sure the evidence is of true classes, and every entry of T.

    For each of eight sharpnesses b, true classes are softmax(b * evidence), and T follows by
    expectation and maximisation from nearly right labels; the likeliest b counts. The evidence
    must not know the labels by heart: else T is the identity.

    Args:
        evidence: [n, C] finite.
        given: [n] class numbers from 0.
    """
    classes = evidence.shape[1]
    one_hot = np.eye(classes)[given]

    def fit(true: np.ndarray) -> np.ndarray:
        flow = np.full((classes, classes), 0.3 / classes) + 0.7 * np.eye(classes)
        for _ in range(_ROUNDS):
            joint = true * flow[:, given].T
            joint /= np.maximum(joint.sum(1, keepdims=True), 1e-300)
            counts = joint.T @ one_hot + _BELIEF * (np.eye(classes) + 0.1)
            flow = counts / counts.sum(1, keepdims=True)
        return np.asarray(flow)

    return _likeliest(evidence, given, fit)


def fit_even_flow(evidence: np.ndarray, given: np.ndarray) -> Flow:
    """Do the same where errors go to all classes alike: T = (1 - r) I + r / C, with one number r.

    Args:
        evidence: [n, C] finite.
        given: [n] class numbers from 0.
    """
    classes = evidence.shape[1]

    def fit(true: np.ndarray) -> np.ndarray:
        own, rate = true[np.arange(len(given)), given], 0.2
        for _ in range(_ROUNDS):
            drawn = rate / classes / np.maximum((1 - rate) * own + rate / classes, 1e-300)
            # One error in a thousand keeps every label possible.
            rate = float(np.clip(drawn.mean(), 1e-3, 0.999))
        return np.asarray((1 - rate) * np.eye(classes) + rate / classes)

    return _likeliest(evidence, given, fit)


def wrong_odds(evidence: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give the log-odds [N] that each row is not of its given class.

    P(true i | row, given j) is in proportion to P(true i | row) T[i, j]. So a given class that is
    the second best guess counts as right where labels hardly flow from the best to it, and as wrong
    where many do. A free T takes classes that are alike for a flow of labels, so it counts only as
    far as it makes labels likelier than even errors do: by its number of entries, as Akaike's
    criterion asks, and by .012 nats for each row. From half of that to half as much again, the odds
    move from the one to the other. With more than 100 classes errors are taken to be even.

    Args:
        evidence: [N, C] log-probabilities of true classes, up to a constant and a common factor;
            rows with NaN are unknown.
        given: [N] class numbers; rows of -1 are unknown.

    Returns:
        [N]; NaN where a row is unknown.
    """
    found = np.full(len(given), np.nan)
    known = np.flatnonzero((given >= 0) & np.isfinite(evidence).all(1))
    classes = evidence.shape[1]
    if not len(known) or classes < 2:
        return found
    part = known[:: max(1, len(known) // _ROWS)]
    even = fit_even_flow(evidence[part], given[part])
    found[known] = _odds(evidence[known], given[known], even)
    if classes > _MOST_CLASSES:
        return found
    free = fit_flow(evidence[part], given[part])
    asked = max(classes * (classes - 1) / len(part), _LEAST_GAIN)
    trust = float(np.clip((free.likelihood - even.likelihood) / asked - 0.5, 0, 1))
    if trust > 0:
        odds = _odds(evidence[known], given[known], free)
        found[known] = (1 - trust) * found[known] + trust * odds
    return found


def _likeliest(
    evidence: np.ndarray, given: np.ndarray, fit: Callable[[np.ndarray], np.ndarray]
) -> Flow:
    best = Flow(1.0, np.eye(evidence.shape[1]), -np.inf)
    for sharpness in _SHARPNESS:
        true = from_numpy(sharpness * evidence).softmax(1).numpy()
        flow = fit(true)
        likely = np.maximum((true * flow[:, given].T).sum(1), 1e-300)
        # What is better in the last bits alone would depend on the order of the rows.
        mean = round(float(np.log(likely).mean()), 9)
        if mean > best.likelihood:
            best = Flow(sharpness, flow, mean)
    return best


def _odds(evidence: np.ndarray, given: np.ndarray, flow: Flow) -> np.ndarray:
    logs = flow.sharpness * evidence + np.log(flow.transition[:, given].T)
    at = np.arange(len(given)), given
    own = logs[at]
    logs[at] = -np.inf
    return np.asarray(from_numpy(logs).logsumexp(1).numpy() - own)
