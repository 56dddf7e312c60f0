"""Which noise the given labels hold, as far as calibration has to know.

Three ways to say it are tried: labels drawn again from all classes, with one rate; a whole
transition matrix, fitted to the same rows; and, where there is one, the matrix that a recipe
estimated. Each is fitted to one half of the rows and held against the other.

Shapes: N rows, C classes. ``T[i, j]``: given label j, true class i.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from errata.confidence.temperature import fit_temperature, fit_uniform_noise, scale
from errata.confidence.transitions import Floats, uniform_transition

__all__ = ["NoiseFit", "fit_class_noise", "fit_noise"]

_FLOOR = 1e-12
_TURNS = 6
_STEPS = 15
_PRIOR_ROWS = 10.0
_MOST_CONDITION = 50.0
_MOST_VALUES = 500_000
_FEWEST_ROWS = 20
"""Rows of every class, on average, that a whole matrix takes; our choice."""


class NoiseFit(NamedTuple):
    """A description of the noise, and the temperature that goes with it."""

    method: str
    """``uniform``, ``class`` or ``recipe``."""
    temperature: float
    transition: Floats
    """T, [C, C], with an inverse."""


def fit_class_noise(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, Floats]:
    """Find the temperature together with a whole transition matrix.

    T by expectation and maximisation, and the temperature, in turn. Each row of T is drawn towards
    uniform noise, which counts like 10 rows; that is our choice, as are the numbers of turns.
    Systematic mistakes of the net look like noise here, since nothing in the rows tells them apart.

    Args:
        logits: [N, C], of rows that were not trained on; log-probabilities do as well.
        labels: Given labels, [N].

    Returns:
        ``(temperature, T)``.

    Source: T by expectation and maximisation, Bekker and Goldberger 2016.
    """
    classes = np.asarray(logits).shape[1]
    temperature, rate = fit_uniform_noise(logits, labels)
    prior = uniform_transition(rate, classes)
    transition = prior
    # Sums by class go over whole runs of rows: no matrix product, whose bits depend on threads.
    order = np.argsort(labels, kind="stable")
    logits, labels = np.asarray(logits, dtype=np.float64)[order], labels[order]
    present, starts = np.unique(labels, return_index=True)
    for _ in range(_TURNS):
        probs = scale(logits, temperature)
        for _ in range(_STEPS):
            belief = probs * transition.T[labels]
            belief /= np.maximum(belief.sum(1, keepdims=True), _FLOOR)
            counts = np.zeros((classes, classes))
            counts[:, present] = np.add.reduceat(belief, starts, axis=0).T
            pooled = counts + _PRIOR_ROWS * prior
            transition = pooled / pooled.sum(1, keepdims=True)
        temperature = fit_temperature(logits, labels, transition=transition)
    return temperature, transition


def fit_noise(
    logits: Floats, labels: NDArray[np.int64], *, transition: Floats | None = None
) -> NoiseFit:
    """Choose and fit the description of the noise that explains unseen labels best.

    Uniform noise counts unless another description is better by a standard error of the paired
    difference. A matrix is left out where there are fewer than 20 rows per class, or where its
    inverse would multiply chance too much.

    Args:
        logits: [N, C], of rows that were not trained on; log-probabilities do as well.
        labels: Given labels, [N], at least 2.
        transition: T, [C, C], of another source, such as a recipe; None is none.
    """
    rows, classes = np.asarray(logits).shape
    assert rows >= 2, rows
    # Few numbers are fitted, for which half a million values are plenty.
    step = max(1, rows * classes // _MOST_VALUES)
    table, given = np.asarray(logits, dtype=np.float64)[::step], labels[::step]
    ways: list[Callable[[Floats, NDArray[np.int64]], NoiseFit]] = [_uniform]
    if len(table) >= _FEWEST_ROWS * classes:
        ways.append(_class)
    if transition is not None and np.linalg.cond(transition) <= _MOST_CONDITION:
        ways.append(lambda z, y: _known(z, y, transition))
    fits = [way(table, given) for way in ways]
    best, losses = fits[0], _held_out(ways[0], table, given) if len(ways) > 1 else None
    for way, fit in zip(ways[1:], fits[1:], strict=True):
        if np.linalg.cond(fit.transition) > _MOST_CONDITION or losses is None:
            continue
        others = _held_out(way, table, given)
        gained = losses - others
        if gained.mean() > gained.std() / np.sqrt(len(gained)):
            best, losses = fit, others
    return best


def _uniform(logits: Floats, labels: NDArray[np.int64]) -> NoiseFit:
    temperature, rate = fit_uniform_noise(logits, labels)
    return NoiseFit("uniform", temperature, uniform_transition(rate, logits.shape[1]))


def _class(logits: Floats, labels: NDArray[np.int64]) -> NoiseFit:
    return NoiseFit("class", *fit_class_noise(logits, labels))


def _known(logits: Floats, labels: NDArray[np.int64], transition: Floats) -> NoiseFit:
    return NoiseFit("recipe", fit_temperature(logits, labels, transition=transition), transition)


def _held_out(
    way: Callable[[Floats, NDArray[np.int64]], NoiseFit],
    logits: Floats,
    labels: NDArray[np.int64],
) -> Floats:
    """Give the loss of every label [N] under a fit to the other half of the rows."""
    losses = np.empty(len(labels))
    half = np.arange(len(labels)) % 2 == 0
    for side in (half, ~half):
        fit = way(logits[~side], labels[~side])
        likelihood = scale(logits[side], fit.temperature) * fit.transition.T[labels[side]]
        losses[side] = -np.log(np.maximum(likelihood.sum(1), _FLOOR))
    return losses
