"""Tables of probabilities as people hand them over: one, or one for each of several models.

Shapes: N rows, C classes, K models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from errata.blocks import Blocks, FileBlocks, blocks_of
from errata.errors import SourceError

__all__ = ["MeanBlocks", "probability_table"]


@final
class MeanBlocks:
    """The mean of several tables of one shape, made block by block."""

    def __init__(self, tables: Sequence[Blocks]) -> None:
        first = tables[0]
        for place, table in enumerate(tables):
            if table.shape != first.shape:
                raise SourceError(
                    f"table {place} of the probabilities has the shape `{table.shape}`; allowed: "
                    f"that of the first, `{first.shape}`",
                    hint="give every model the same rows and classes, in the same order",
                )
        self.name = f"the mean of {len(tables)} tables"
        self.shape = first.shape
        # The coarsest table says how far the sums may stray.
        self.dtype = min((table.dtype for table in tables), key=lambda dtype: dtype.itemsize)
        self._tables = tables

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows [stop - start, C] in double precision."""
        total = self._tables[0].read(start, stop).astype(np.float64)
        for table in self._tables[1:]:
            total += table.read(start, stop)
        return np.asarray(total / len(self._tables))


def probability_table(probs: Any) -> Blocks:
    """Open probabilities [N, C], or several tables of one shape, whose mean counts.

    Several tables are a tuple or list of arrays, tensors or paths, or one array [K, N, C].

    Raises:
        SourceError: They are no tables of floating-point numbers, or differ in shape.
    """
    several = _several(probs)
    if several is None:
        return _table(probs, "probabilities")
    if not several:
        raise SourceError(
            "there is no table of probabilities; allowed: one or more",
            hint="give an array [N, C], or a list of them",
        )
    return MeanBlocks([_table(each, f"table {k} of the probabilities") for k, each in several])


def _several(probs: Any) -> list[tuple[int, Any]] | None:
    is_stack = getattr(probs, "ndim", 2) == 3
    is_list = isinstance(probs, list | tuple) and all(
        isinstance(each, str | Path) or getattr(each, "ndim", 1) == 2 for each in probs
    )
    return list(enumerate(probs)) if is_stack or is_list else None


def _table(probs: Any, name: str) -> Blocks:
    # A mapped file that shrinks ends the process where it is read through the map.
    if isinstance(probs, np.memmap) and (file := _whole_file(probs)) is not None:
        return file
    return blocks_of(probs, name)


def _whole_file(probs: np.memmap[Any, Any]) -> FileBlocks | None:
    """Open the npy file behind a map, where the map shows all of it unchanged."""
    name = getattr(probs, "filename", None)
    if name is None or Path(name).suffix != ".npy":
        return None
    file = FileBlocks(Path(name))
    same = file.shape == probs.shape and file.dtype == probs.dtype
    is_end = probs.offset + probs.nbytes == Path(name).stat().st_size
    is_all = probs.flags.c_contiguous and is_end
    return file if same and is_all and probs.mode in ("r", "r+") else None
