"""The true labels, kept apart from everything that trains or detects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Truth"]


@dataclass(frozen=True, eq=False)
class Truth:
    """The true class number of every training row. Only evaluation reads it."""

    clean: np.ndarray
    """[N] int64 class numbers; -1 where the truth is unknown."""
