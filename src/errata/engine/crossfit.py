"""Held-out probabilities: train on all folds but one, predict that one, in turn.

Shapes: N rows, C classes, K folds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from errata.data import Subset
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_feed
from errata.errors import SettingsError
from errata.streams import numpy_generator
from errata.types import Source

__all__ = ["crossfit", "split_folds"]


def split_folds(given: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """Give each row a fold, 0 to K - 1, with every class spread evenly over the folds.

    Args:
        given: [N] classes; -1 is a class of its own here.
        folds: At least 2, at most the rows of the smallest class.
        seed: Start of the stream.

    Raises:
        SettingsError: `folds` is out of range.
    """
    smallest = int(np.unique(given[given >= 0], return_counts=True)[1].min())
    if smallest < 2:
        raise SettingsError(
            f"folds `{folds}` cannot be made: a class has a single row; allowed: 2 rows or more "
            "of every class",
            hint="0 folds train once",
        )
    if not 2 <= folds <= smallest:
        raise SettingsError(
            f"folds `{folds}` is out of range; allowed: 2 to {smallest}, the rows of the smallest "
            "class",
            hint="5 folds are usual; 0 trains once",
        )
    rng = numpy_generator(seed, "folds")
    fold = np.empty(len(given), dtype=np.int64)
    start = 0
    for label in np.unique(given):
        members = rng.permutation(np.flatnonzero(given == label))
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return fold


def crossfit(
    fit_source: Callable[[Subset, Path], TrainingRun],
    source: Source,
    folds: int,
    *,
    seed: int,
    work: Path,
) -> np.ndarray:
    """Predict every row by nets that never saw it: [N, C] float32.

    Args:
        fit_source: Trains on some rows of the source, with a folder for its checkpoint.
        source: All rows.
        folds: How many trainings.
        seed: Start of the stream that splits.
        work: Folder for finished folds, so that an interrupted run goes on.
    """
    fold = split_folds(source.given, folds, seed=seed)
    probs = np.zeros((len(source.ids), len(source.classes)), dtype=np.float32)
    for k in range(folds):
        name = f"fold-{k}-of-{folds}"
        place = work / f"{name}.npy"
        held = np.flatnonzero(fold == k)
        if not place.exists():
            run = fit_source(Subset(source, np.flatnonzero(fold != k)), work / name)
            predicted = mean_probabilities(run, test_feed(run, Subset(source, held)))
            partial = work / f"{name}.partial.npy"
            np.save(partial, predicted.astype(np.float32))
            partial.replace(place)
        probs[held] = np.load(place, allow_pickle=False)
    return probs
