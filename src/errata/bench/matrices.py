"""Transition matrices with a name, so that cells of matrix noise need no file.

Shapes: C classes. ``T[i, j]`` = P(given j | true i), rows sum to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from errata.data import Planted, Relabelled, plant_noise
from errata.data.flips import draw_by_matrix
from errata.streams import numpy_generator

__all__ = ["MATRICES", "neighbours", "plant"]


def neighbours(classes: int) -> np.ndarray:
    """Give a matrix [C, C] whose errors go mostly to the next class and the one after it.

    60 % of the labels stay, 25 % go to the next class, 10 % to the one after, and 5 % spread over
    the rest: no row is symmetric, and every class keeps its majority.

    Example:
        >>> neighbours(4)[0].round(2).tolist()
        [0.6, 0.25, 0.1, 0.05]
    """
    T = np.zeros((classes, classes))
    for step in range(classes):
        share = (0.6, 0.25, 0.1)[step] if step < 3 else 0.05 / (classes - 3)
        T[np.arange(classes), (np.arange(classes) + step) % classes] = share
    return np.asarray(T / T.sum(1, keepdims=True))


MATRICES: dict[str, Callable[[int], np.ndarray]] = {"neighbours": neighbours}
"""What ``matrix:NAME`` stands for in the noise of a cell; other names are files."""


def plant(clean: Planted, noise: str, *, seed: int) -> Planted:
    """Plant label errors as `plant_noise` does, or by a matrix with a name; ``none`` plants none.

    Args:
        clean: The samples before, with what is known of their truth.
        noise: A noise spec, ``none``, or ``matrix:NAME`` with a name of `MATRICES`.
        seed: Of the cell.

    Raises:
        SettingsError: The noise is not allowed.
    """
    kind, _, name = noise.partition(":")
    if noise == "none":
        return clean
    if kind != "matrix" or name not in MATRICES:
        return plant_noise(clean.source, noise, seed=seed, truth=clean.truth)
    before, classes = clean.source.given, len(clean.source.classes)
    rng = numpy_generator(seed, "noise", noise)
    given = draw_by_matrix(before, MATRICES[name](classes), rng)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (before[before >= 0], given[before >= 0]), 1)
    rate = 1 - float(np.trace(counts)) / max(1, int(counts.sum()))
    words = f"labels drawn by the matrix `{name}`; {rate:.1%} are wrong"
    source = Relabelled(clean.source, given)
    return replace(clean, source=source, rate=rate, matrix=counts, words=words)
