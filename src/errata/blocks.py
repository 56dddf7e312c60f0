"""Tables of numbers read in blocks of rows: arrays in memory, and npy files of any size.

Files are read, not mapped: a mapped file that shrinks while it is read ends the process, and a
short read can be told.

Shapes: N rows, C columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from errata.errors import SourceError

__all__ = ["ArrayBlocks", "Blocks", "FileBlocks", "blocks_of", "iterate", "vector_of"]

_VALUES = 2**21
"""Numbers in a block: 16 MB in double precision."""


@runtime_checkable
class Blocks(Protocol):
    """A table that is read a few rows at a time."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """N and C."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers as stored."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows [stop - start, C], in the type they are stored in."""
        ...


class ArrayBlocks:
    """An array in memory."""

    def __init__(self, values: np.ndarray, name: str) -> None:
        _check_table(values.shape, values.dtype, name)
        self.name = name
        self.shape = (values.shape[0], values.shape[1])
        self.dtype = values.dtype
        self._values = values

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows [stop - start, C]."""
        return self._values[start:stop]


class FileBlocks:
    """An npy file."""

    def __init__(self, path: Path) -> None:
        self.name = f"`{path}`"
        self.path = path
        try:
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = header(file)
                self._offset = file.tell()
        except OSError as error:
            raise SourceError(
                f"{self.name} cannot be read: {error.strerror or error}",
                hint="check the path and its permissions",
            ) from error
        except ValueError as error:
            raise SourceError(
                f"{self.name} is no npy file: {error}", hint="write it with numpy.save"
            ) from error
        _check_table(shape, dtype, self.name)
        if fortran:
            raise SourceError(
                f"{self.name} is stored column by column; allowed: row by row",
                hint="save numpy.ascontiguousarray(probs)",
            )
        self.shape = (shape[0], shape[1])
        self.dtype = np.dtype(dtype)
        self._check_size()

    def _check_size(self) -> None:
        wanted = self._offset + self.shape[0] * self.shape[1] * self.dtype.itemsize
        there = self.path.stat().st_size
        if there < wanted:
            raise self._too_short(there, wanted)

    def _too_short(self, there: int, wanted: int) -> SourceError:
        return SourceError(
            f"{self.name} ends after {there:,} of {wanted:,} bytes; allowed: the whole table",
            hint="write it again; was it still being written?",
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows [stop - start, C].

        Raises:
            SourceError: The file has become shorter since it was opened.
        """
        width = self.shape[1] * self.dtype.itemsize
        wanted = (stop - start) * width
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), wanted, self._offset + start * width)
        if len(data) < wanted:
            raise self._too_short(
                self._offset + start * width + len(data),
                self._offset + self.shape[0] * width,
            )
        return np.frombuffer(data, self.dtype).reshape(stop - start, self.shape[1])


def _check_table(shape: tuple[int, ...], dtype: Any, name: str) -> None:
    if len(shape) != 2 or 0 in shape:
        raise SourceError(
            f"{name} has the shape `{shape}`; allowed: rows and columns [N, C]",
            hint="give one row per sample and one column per class",
        )
    if not np.issubdtype(dtype, np.floating):
        raise SourceError(
            f"{name} holds numbers of type `{dtype}`; allowed: float16, float32, float64",
            hint="give probabilities, not classes or counts",
        )


def blocks_of(values: Any, name: str) -> Blocks:
    """Read numbers of any kind as a table: a path, an array, a tensor, lists, a data frame, Arrow.

    Raises:
        SourceError: They are no table of floating-point numbers.
    """
    if isinstance(values, str | Path):
        return FileBlocks(Path(values).expanduser())
    return ArrayBlocks(_array_of(values, name), name)


def vector_of(values: Any, name: str) -> np.ndarray:
    """Read a column of any kind as an array [N]: a path, an array, a tensor, a list, a series.

    Raises:
        SourceError: It is no single column.
    """
    if isinstance(values, str | Path):
        path = Path(values).expanduser()
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SourceError(
                f"`{path}` cannot be read as an npy file: {error}",
                hint="write it with numpy.save",
            ) from error
    array = _array_of(values, name)
    if array.ndim != 1:
        raise SourceError(
            f"{name} have the shape `{array.shape}`; allowed: one value per row, [N]",
            hint="give class numbers, not one-hot rows",
        )
    return array


def _array_of(values: Any, name: str) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # Numpy has no bfloat16.
        return np.asarray(values.float() if values.dtype.itemsize == 2 else values)
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype == object:
        raise SourceError(
            f"{name} are no regular array of numbers; allowed: arrays, tensors, lists of equal "
            "length, data frames, Arrow tables",
            hint="give every row the same number of values",
        )
    return array


def iterate(blocks: Blocks, *, values: int = _VALUES) -> Iterator[tuple[slice, np.ndarray]]:
    """Go through a table in blocks: the place of the rows, and the rows in double precision."""
    rows, columns = blocks.shape
    size = max(1, values // columns)
    for start in range(0, rows, size):
        stop = min(rows, start + size)
        yield slice(start, stop), blocks.read(start, stop).astype(np.float64)
