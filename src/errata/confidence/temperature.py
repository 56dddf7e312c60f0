"""Temperature scaling that knows of the noise in the labels it is fitted to.

Fitted to noisy labels, a plain temperature makes a net as sure as its *noisy* accuracy: right
answers get far too little confidence. Here the likelihood of the given label passes through the
transition matrix T, so that the noise explains the surprises and the temperature need not.

Shapes: N rows, C classes. ``T[i, j]``: given label j, true class i.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from errata.confidence.transitions import Floats

__all__ = ["fit_temperature", "fit_uniform_noise", "scale"]

_LOG_RANGE = 3.0
"""Temperatures are searched for between exp(-3) and exp(3), a factor of twenty either way."""
_LEAST = 1e-12
_PRIOR_SPREAD = 0.5


def scale(logits: Floats, temperature: float) -> Floats:
    """Give softmax(logits / temperature), [N, C]."""
    assert temperature > 0, temperature
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(z / z.sum(1, keepdims=True))


def fit_temperature(
    logits: Floats, labels: NDArray[np.int64], *, transition: Floats | None = None
) -> float:
    """Find the temperature under which the given labels are most likely.

    Args:
        logits: [N, C], of rows that were not trained on; log-probabilities do as well.
        labels: Given labels, [N].
        transition: T, [C, C]; None takes the labels to be right.

    Returns:
        The temperature, between 0.05 and 20.

    Source: Guo et al. 2017, arXiv:1706.04599; the likelihood through T is that of the forward
    correction, Patrini et al. 2017, arXiv:1609.03683.
    """
    columns = None if transition is None else np.asarray(transition).T[labels]

    def cost(log_temperature: float) -> float:
        loss = _nll(logits, labels, np.exp(log_temperature), columns)
        return loss + _doubt(log_temperature, len(labels))

    return float(np.exp(_lowest(cost, -_LOG_RANGE, _LOG_RANGE)))


def fit_uniform_noise(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Find the temperature together with the rate of uniform noise.

    Both can be told apart where the net is sure of many rows: noise bounds how often the surest
    answers agree with the labels, temperature does not.

    Args:
        logits: [N, C], of rows that were not trained on.
        labels: Given labels, [N].

    Returns:
        ``(temperature, rate)``; labels were drawn again with probability `rate`, from all classes.
    """
    classes = np.asarray(logits).shape[1]

    def rate_at(log_temperature: float) -> tuple[float, float]:
        # Of each row only the probability of its label counts, which makes many rates cheap.
        at_label = scale(logits, float(np.exp(log_temperature)))[np.arange(len(labels)), labels]

        def cost(rate: float) -> float:
            likelihood = (1 - rate) * at_label + rate / classes
            return float(-np.log(np.maximum(likelihood, _LEAST)).mean())

        rate = _lowest(cost, 0.0, 0.95)
        return cost(rate), rate

    def cost_at(place: float) -> float:
        return rate_at(place)[0] + _doubt(place, len(labels))

    best = _lowest(cost_at, -_LOG_RANGE, _LOG_RANGE)
    return float(np.exp(best)), rate_at(best)[1]


def _doubt(log_temperature: float, rows: int) -> float:
    """Hold a temperature back, by what one normal prior costs per row.

    Without it, a few rows that are all answered right would make the net infinitely sure. On
    thousands of rows it changes nothing. Its spread, half a natural logarithm, is our choice.
    """
    return (log_temperature / _PRIOR_SPREAD) ** 2 / (2 * max(rows, 1))


def _nll(
    logits: Floats, labels: NDArray[np.int64], temperature: float, columns: Floats | None
) -> float:
    probs = scale(logits, temperature)
    if columns is None:
        at_label = probs[np.arange(len(labels)), labels]
    else:
        at_label = (probs * columns).sum(1)
    return float(-np.log(np.maximum(at_label, _LEAST)).mean())


def _lowest(
    cost: Callable[[float], float], low: float, high: float, *, places: int = 9, turns: int = 15
) -> float:
    """Find the lowest place of a function: on a grid, as it may have several dips, then closer."""
    grid = np.linspace(low, high, places)
    best = int(np.argmin([cost(float(place)) for place in grid]))
    left, right = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, places - 1)])
    golden = (np.sqrt(5) - 1) / 2
    inner, outer = right - golden * (right - left), left + golden * (right - left)
    at_inner, at_outer = cost(inner), cost(outer)
    for _ in range(turns):
        if at_inner <= at_outer:
            right, outer, at_outer = outer, inner, at_inner
            inner = right - golden * (right - left)
            at_inner = cost(inner)
        else:
            left, inner, at_inner = inner, outer, at_outer
            outer = left + golden * (right - left)
            at_outer = cost(outer)
    return float((left + right) / 2)
