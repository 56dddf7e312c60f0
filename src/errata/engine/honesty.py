"""How honest a model is on labels that are known: calibration, sets and reliability.

Shapes: N rows, C classes, B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from errata import measures
from errata.confidence.calibration import Calibration
from errata.confidence.transitions import Floats
from errata.engine.testing import test_report

__all__ = ["measured", "reliability_bins"]

COVERAGE = 0.9


def measured(
    raw: Floats, labels: NDArray[np.int64], calibration: Calibration | None
) -> dict[str, Any]:
    """Compare a model with labels, calibrated where it can be.

    Args:
        raw: Probabilities of the model, [N, C].
        labels: [N], at least one of them known; -1 does not count.
        calibration: None measures the probabilities as they are.

    Returns:
        What `test_report` gives, with ``coverage_90`` and ``set_size_90`` where there is a
        calibration, and two more keys: ``reliability``, the bins of `reliability_bins`, and
        ``uncalibrated``, which holds nll, brier, ece and reliability of `raw`; None without
        calibration.
    """
    known = labels >= 0
    table, truth = np.asarray(raw, dtype=np.float64)[known], labels[known]
    if calibration is None or not len(truth):
        bins = reliability_bins(table, truth)
        return {**test_report(table, truth), "reliability": bins, "uncalibrated": None}
    probs = calibration.probs(table)
    sets = calibration.sets(probs, COVERAGE)
    return {
        **test_report(probs, truth),
        "coverage_90": float(sets[np.arange(len(truth)), truth].mean()),
        "set_size_90": float(sets.sum(1).mean()),
        "reliability": reliability_bins(probs, truth),
        "uncalibrated": {
            "nll": measures.nll(table, truth),
            "brier": measures.brier(table, truth),
            "ece": measures.ece(table, truth),
            "reliability": reliability_bins(table, truth),
        },
    }


def reliability_bins(
    probs: Floats, labels: NDArray[np.int64], *, bins: int = 15
) -> list[list[float]]:
    """Give mean confidence, accuracy and number of rows of bins that hold equally many rows.

    The bins are those of `errata.measures.ece`, least sure first; empty ones are left out.

    Example:
        >>> probs = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
        >>> reliability_bins(probs, np.array([0, 1, 1, 1]), bins=2)
        [[0.625, 0.5, 2], [0.875, 1.0, 2]]
    """
    table = np.asarray(probs, dtype=np.float64)
    confidence, correct = table.max(1), table.argmax(1) == labels
    order = np.argsort(confidence, kind="stable")
    return [
        [round(float(confidence[rows].mean()), 6), round(float(correct[rows].mean()), 6), len(rows)]
        for rows in np.array_split(order, bins)
        if len(rows)
    ]
