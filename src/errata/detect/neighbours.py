"""Neighbours in somebody's features: how many of them have another label.

Shapes: N rows, D features, n rows of a block, k neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

from errata.blocks import Blocks
from errata.errors import SettingsError, SourceError

__all__ = ["neighbour_disagreement"]

_VALUES = 2**22
"""Similarities held at a time: 16 MB in single precision."""


def neighbour_disagreement(features: Blocks, given: np.ndarray, *, k: int = 10) -> np.ndarray:
    """Give the share [N] of the `k` nearest labelled rows that have another label.

    Nearest by the cosine of the features; a row is no neighbour of itself. Exact, in blocks: time
    grows with N squared, and memory with N times D.

    Args:
        features: [N, D] finite numbers.
        given: [N] class numbers; rows of -1 are no neighbours, and get NaN.
        k: 1 or more.

    Raises:
        SourceError: The features do not fit the labels, or are no finite numbers.
        SettingsError: `k` is not allowed.
    """
    if k < 1:
        raise SettingsError(f"k `{k}` is not allowed; allowed: 1 or more")
    if features.shape[0] != len(given):
        raise SourceError(
            f"there are {features.shape[0]:,} rows of {features.name} for {len(given):,} labels; "
            "allowed: one row for each label",
            hint="give both in the same order",
        )
    rows = np.flatnonzero(given >= 0)
    table = torch.from_numpy(features.read(0, len(given)).astype(np.float32)[rows])
    if not bool(torch.isfinite(table).all()):
        raise SourceError(
            f"{features.name} hold NaN or infinity; allowed: finite numbers",
            hint="leave the rows out, or extract the features again",
        )
    units = torch.nn.functional.normalize(table, dim=1)
    labels = torch.from_numpy(given[rows])
    found = np.full(len(given), np.nan)
    most = min(k, len(rows) - 1)
    size = max(1, _VALUES // max(1, len(rows)))
    for start in range(0, len(rows), size):
        stop = min(len(rows), start + size)
        near = units[start:stop] @ units.T
        near[torch.arange(stop - start), torch.arange(start, stop)] = -2.0
        nearest = near.topk(most, dim=1).indices
        differs = labels[nearest] != labels[start:stop, None]
        found[rows[start:stop]] = differs.double().mean(1).numpy()
    return found
