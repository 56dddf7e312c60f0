"""Samples that are in memory as one array, and the npz files they come from.

Shapes: N rows, C channels, H height, W width, D features.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from errata.data.classes import class_numbers
from errata.data.decode import load_pillow
from errata.data.found import Fit, Found, Progress, Taken
from errata.data.ids import plain_text, text_id, texts, user_ids
from errata.data.layout import check_pixels, fit_pixels
from errata.errors import SourceError

__all__ = ["Arrays", "FoundArrays", "load_arrays", "png_of", "read_npz"]


@final
class Arrays:
    """A source whose samples lie in one array.

    Args:
        x: [N, C, H, W] uint8 pictures (0 to 255), [N, C, H, W] float32 pictures, or [N, D] float32
            vectors.
        given: [N] class numbers; -1 is unlabelled.
        classes: Names of the classes.
        ids: Unique keys; row numbers as text by default.
        name: How people refer to the source.

    Example:
        >>> x, given = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
        >>> source = Arrays(x, given, classes=("cat", "dog"))
        >>> source.ids, source.shape, source.pixels(np.array([1])).shape
        (['0', '1'], (1, 8, 8), torch.Size([1, 1, 8, 8]))
    """

    def __init__(
        self,
        x: np.ndarray,
        given: np.ndarray,
        *,
        classes: Sequence[str],
        ids: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> None:
        assert x.ndim in (2, 4), "pictures are [N, C, H, W], vectors are [N, D]"
        assert len(x) == len(given), "every row has one label"
        self.x = x
        self.name = name
        self.ids: Sequence[str] = [str(row) for row in range(len(x))] if ids is None else ids
        self.given = np.asarray(given, dtype=np.int64)
        self.classes = tuple(classes)
        self.shape: tuple[int, ...] = tuple(x.shape[1:])
        self.in_memory = True

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples [B, *shape] of these rows, in the type of the array."""
        return torch.from_numpy(np.take(self.x, np.asarray(rows, dtype=np.int64), axis=0))

    def show(self, row: int) -> bytes:
        """Write one picture as a PNG file; ``b""`` for a vector.

        Float pictures that leave 0 to 255 are stretched from their own smallest to their largest
        value.
        """
        return png_of(self.x[row])


def png_of(sample: np.ndarray) -> bytes:
    """Write a picture [C, H, W] as a PNG file of its own size; ``b""`` for a vector [D]."""
    if sample.ndim != 3:
        return b""
    pillow = load_pillow()
    planes = sample[:3] if len(sample) >= 3 else sample[:1]
    if planes.dtype != np.uint8:
        low, high = float(planes.min()), float(planes.max())
        if low < 0 or high > 255:
            planes = (planes - low) * (255 / max(high - low, 1e-12))
        planes = np.rint(planes).astype(np.uint8)
    image = pillow.fromarray(
        planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
    )
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@final
class FoundArrays(Found):
    """Rows of an array, before a subset of them becomes a source."""

    def __init__(
        self,
        x: np.ndarray,
        given: np.ndarray,
        *,
        classes: Sequence[str],
        name: str,
        ids: Sequence[str] | None = None,
        is_ordered: bool = True,
        truth: np.ndarray | None = None,
        tests: dict[str, Found] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            ids=[str(row) for row in range(len(x))] if ids is None else ids,
            given=given,
            classes=classes,
            is_ordered=is_ordered,
            truth=truth,
            tests=tests,
        )
        self.x = x

    def take(
        self, rows: np.ndarray, *, given: np.ndarray, fit: Fit, progress: Progress | None = None
    ) -> Taken:
        """Make the source of these rows, resized where `fit` asks for it."""
        is_prefix = len(rows) > 0 and rows[0] == 0 and rows[-1] == len(rows) - 1
        # A slice shares memory with the whole; only a scattered subset needs a copy.
        x = self.x[: len(rows)] if is_prefix else self.x[rows]
        source = Arrays(
            fit_pixels(x, fit, name=self.name),
            given,
            classes=self.classes,
            ids=[self.ids[row] for row in rows],
            name=self.name,
        )
        return Taken(source, np.arange(len(rows)), ())


def read_npz(path: Path, *, name: str, match: Sequence[str] | None = None) -> FoundArrays:
    """Read an npz file: `x` [N, ...], `y` [N], optional `ids` [N] and `classes` [C].

    `y` holds class numbers, or the class names themselves as text. Without `classes`, every number
    that occurs is a class named by that number.

    Args:
        path: The file.
        name: How people refer to it.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: The file cannot be read, lacks an array, or holds values that are not allowed.
    """
    where = f"`{text_id(str(path))}`"
    content = load_arrays(path, needed=("x", "y"), optional=("ids", "classes"))
    x, y = content["x"], content["y"]
    if x.ndim == 0 or len(x) == 0:
        raise SourceError(
            f"{where} holds no rows; allowed: at least one row in each of two classes"
        )
    if y.shape != (len(x),):
        raise SourceError(
            f"{where}: `y` has the shape `{y.shape}`, but `x` has {len(x)} rows; allowed: one "
            "label for each row"
        )
    ids = user_ids(content.get("ids"), count=len(x), where=where)
    own = content.get("classes")
    if own is not None and (own.ndim != 1 or own.dtype.kind not in "USiu"):
        raise SourceError(
            f"{where}: `classes` has the shape `{own.shape}` and the type `{own.dtype}`; allowed: "
            "a list of names"
        )
    given, classes = class_numbers(
        y,
        ids=ids,
        classes=None if own is None else [plain_text(label) for label in texts(own)],
        match=match,
        where=f"{where}: `y`",
    )
    return FoundArrays(
        check_pixels(x, ids=ids, where=f"{where}: `x`"), given, classes=classes, name=name, ids=ids
    )


def load_arrays(
    path: Path, *, needed: Sequence[str], optional: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Load named arrays of an npz file, never any Python objects.

    Args:
        path: The file.
        needed: Arrays that have to be there.
        optional: Other arrays to load where they are there; all of them by default.

    Raises:
        SourceError: The file is no npz file, is damaged, or lacks a needed array.
    """
    where = f"`{text_id(str(path))}`"
    try:
        # Opened here, because numpy leaves the file open when it turns out to be damaged.
        with path.open("rb") as raw:
            file: Any = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise SourceError(
                    f"{where} holds a single array; allowed: an npz file with {_listed(needed)}"
                )
            missing = [key for key in needed if key not in file.files]
            if missing:
                arguments = ", ".join(f"{key}=..." for key in needed)
                raise SourceError(
                    f"{where} has no array {_listed(missing)}; it holds: "
                    f"{_listed(file.files) or 'nothing'}",
                    hint=f"save it with `numpy.savez(path, {arguments})`",
                )
            wanted = file.files if optional is None else (*needed, *optional)
            return {key: file[key] for key in wanted if key in file.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise SourceError(
            f"{where} cannot be read as an npz file: {error}",
            hint="write it again with `numpy.savez`; arrays of Python objects are never read",
        ) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
