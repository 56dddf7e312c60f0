"""Transition matrices as calibration needs them. ``T[i, j]``: given label j, true class i."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "inverse_of", "uniform_transition"]

Floats = NDArray[np.float64]


def uniform_transition(rate: float, classes: int) -> Floats:
    """Give T of labels that were drawn again, with probability `rate`, from all classes.

    Example:
        >>> uniform_transition(0.3, 3)[0].round(2).tolist()
        [0.8, 0.1, 0.1]
    """
    assert 0 <= rate < 1, rate
    return (1 - rate) * np.eye(classes) + rate / classes


def inverse_of(transition: Floats | None, classes: int) -> Floats:
    """Invert T; None is no noise. A singular matrix is an assertion: check it where it is read."""
    if transition is None:
        return np.eye(classes)
    assert transition.shape == (classes, classes), transition.shape
    return np.asarray(np.linalg.inv(transition), dtype=np.float64)
