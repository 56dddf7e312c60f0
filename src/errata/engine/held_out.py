"""Rows that are kept out of training, so that confidence can be fitted to them.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from errata.confidence.calibration import LEAST_ROWS, Calibration, fit_calibration
from errata.data import Subset
from errata.data.samples import Samples
from errata.data.wrap import stratified_rows
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_feed
from errata.errors import SettingsError
from errata.streams import numpy_generator
from errata.types import Source

__all__ = ["MOST_ROWS", "calibrate_on", "hold_out", "matrix_of"]

MOST_ROWS = 5_000
"""More rows hardly make a temperature or a threshold more exact; our choice."""


def hold_out(samples: Samples, share: float, *, seed: int) -> tuple[Samples, Source | None]:
    """Split off rows for calibration, with every class in its share.

    Args:
        samples: What would be trained on.
        share: Of the labelled rows, 0 to below 1; at most 5,000 rows are taken.
        seed: Start of the stream that chooses.

    Returns:
        What is left for training, without the truth, and the rows that were split off. Where they
        would be fewer than 100, everything is left for training, and None.

    Raises:
        SettingsError: The share is out of range.
    """
    if not 0 <= share < 1:
        raise SettingsError(
            f"calibration `{share}` is not allowed; allowed: a share of 0 to below 1",
            hint="0.1 is usual; 0 trains on all rows and calibrates nothing",
        )
    source = samples.source
    labelled = np.flatnonzero(source.given >= 0)
    count = min(round(share * len(labelled)), MOST_ROWS)
    if count < LEAST_ROWS:
        return samples, None
    rng = numpy_generator(seed, "calibration")
    held = labelled[stratified_rows(source.given[labelled], count, rng)]
    kept = np.setdiff1d(np.arange(len(source.given)), held)
    left = replace(
        samples,
        source=Subset(source, kept),
        truth=None,
        conflicts=(),
        weights=None if samples.weights is None else samples.weights[kept],
        verified=None if samples.verified is None else samples.verified[kept],
    )
    return left, Subset(source, held)


def calibrate_on(run: TrainingRun, held: Source) -> Calibration | None:
    """Fit the calibration of a finished run to rows that it did not train on."""
    probs = mean_probabilities(run, test_feed(run, held))
    return fit_calibration(probs, held.given, transition=matrix_of(run))


def matrix_of(run: TrainingRun) -> np.ndarray | None:
    """Give the transition matrix [C, C] that a run estimated; None where it has none."""
    kept = run.memory.get("transition")
    if not isinstance(kept, torch.Tensor) or tuple(kept.shape) != (run.classes, run.classes):
        return None
    return np.asarray(kept.detach().double().cpu().numpy())
