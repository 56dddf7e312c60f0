"""True labels [N] in a file of their own, for evaluating what was found without a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from errata.blocks import vector_of
from errata.data.truth import Truth
from errata.errors import SourceError

__all__ = ["read_truth_vector"]


def read_truth_vector(path: str | Path, *, rows: int, classes: int) -> Truth:
    """Read the true class numbers of all rows from an npy file; -1 is unknown.

    Raises:
        SourceError: The file cannot be read, or does not fit the rows or the classes.
    """
    values = vector_of(path, "true labels")
    if len(values) != rows or not np.issubdtype(values.dtype, np.integer):
        raise SourceError(
            f"`{path}` holds {len(values):,} values of type `{values.dtype}`; allowed: {rows:,} "
            "class numbers, one for each row",
            hint="give the true labels in the order of the labels",
        )
    clean = values.astype(np.int64)
    strange = clean[(clean < -1) | (clean >= classes)]
    if len(strange):
        raise SourceError(
            f"`{path}` holds the class `{strange[0]}`; allowed: 0 to {classes - 1}, -1 for unknown",
            hint="number the classes as the columns of the probabilities are ordered",
        )
    return Truth(clean)
