"""Image files as a source: decoded into memory where they fit, else whenever they are asked for.

Shapes: N rows, B batch, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, final

import numpy as np
import torch
from torch import Tensor

from errata.data.arrays import png_of
from errata.data.decode import (
    Header,
    UnreadableError,
    decode_file,
    quiet_pillow,
    read_header,
    thumbnail,
)
from errata.data.found import Fit, Found, Progress, Taken, Unreadable
from errata.data.ids import text_id
from errata.errors import SourceError

__all__ = ["MEMORY_BUDGET", "FoundFiles", "Pictures"]

MEMORY_BUDGET = 2**30
"""Bytes of decoded pixels that are kept in memory."""

_DEFAULT_SIDE = 64
# Files handed to the threads together; an interruption waits for no more than these.
_BLOCK = 512

S = TypeVar("S")
T = TypeVar("T")


@final
class Pictures:
    """A source of image files that have all been decoded once.

    Args:
        files: The files, one for each row.
        given: [N] class numbers; -1 is unlabelled.
        classes: Names of the classes.
        ids: Unique keys.
        name: How people refer to the source.
        shape: Channels, height and width that files are decoded to.
        digests: A short name of each row's pixels: equal pixels, equal names.
        store: Decoded pixels [M, C, H, W] uint8, or None to decode on demand.
        places: [N] positions of the rows in the store.
    """

    def __init__(
        self,
        files: Sequence[Path],
        given: np.ndarray,
        *,
        classes: Sequence[str],
        ids: Sequence[str],
        name: str,
        shape: tuple[int, int, int],
        digests: Sequence[bytes],
        store: np.ndarray | None,
        places: np.ndarray,
    ) -> None:
        self.files = files
        self.given = given
        self.classes = tuple(classes)
        self.ids = ids
        self.name = name
        self.shape: tuple[int, ...] = shape
        self.digests = digests
        self.store = store
        self.places = places
        self.in_memory = store is not None

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Pictures [B, C, H, W] uint8 of these rows.

        Raises:
            SourceError: A file that was readable when the source was opened no longer is.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if self.store is not None:
            return torch.from_numpy(np.take(self.store, self.places[rows], axis=0))
        channels, height, width = self.shape
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)

        def decode(place: int) -> None:
            file = self.files[rows[place]]
            out[place] = decode_file(file, size=(height, width), channels=channels)

        for place, failure in enumerate(_in_threads(decode, range(len(rows)))):
            if isinstance(failure, UnreadableError):
                raise SourceError(
                    f"`{text_id(str(self.files[rows[place]]))}` can no longer be read: "
                    f"{failure.message}",
                    hint="leave the files where they are while a run reads them",
                )
        return torch.from_numpy(out)

    def show(self, row: int) -> bytes:
        """Show the original picture as a PNG file, upright, longest side at most 512 pixels.

        Where the file is gone, the decoded pixels are shown instead, or nothing (``b""``).
        """
        try:
            return thumbnail(self.files[row])
        except UnreadableError:
            return b"" if self.store is None else png_of(self.store[self.places[row]])


@final
class FoundFiles(Found):
    """Labelled image files, before they are decoded.

    Args:
        files: The files, one for each row.
        budget: Bytes of decoded pixels that may be kept in memory.
    """

    def __init__(
        self,
        files: Sequence[Path],
        given: np.ndarray,
        *,
        classes: Sequence[str],
        ids: Sequence[str],
        name: str,
        truth: np.ndarray | None = None,
        tests: dict[str, Found] | None = None,
        skipped: int = 0,
        budget: int = MEMORY_BUDGET,
    ) -> None:
        super().__init__(
            name=name,
            ids=ids,
            given=given,
            classes=classes,
            is_ordered=False,
            truth=truth,
            tests=tests,
            skipped=skipped,
        )
        self.files = files
        self.budget = budget

    def take(
        self, rows: np.ndarray, *, given: np.ndarray, fit: Fit, progress: Progress | None = None
    ) -> Taken:
        """Decode these files once; those that cannot be decoded are listed and left out.

        Without a size, pictures that are all square, equally large and at most 64 pixels wide stay
        as they are; all others become 64 x 64. Without channels, pictures become grey only where
        every one of them is.

        Raises:
            SourceError: None of the files can be decoded.
        """
        files = [self.files[row] for row in rows]
        failures: dict[int, UnreadableError] = {}
        if fit.size is None or fit.channels is None:
            headers = _in_threads(read_header, files)
            failures = _failures(headers)
            fit = _default_fit(fit, [head for head in headers if isinstance(head, Header)])
        assert fit.size is not None
        assert fit.channels is not None
        shape = (fit.channels, *fit.size)
        left = np.setdiff1d(np.arange(len(files)), list(failures))
        fits = len(left) * int(np.prod(shape)) <= self.budget
        store = np.empty((len(left), *shape), dtype=np.uint8) if fits else None
        results = _in_threads(
            lambda place: _digest(files[left[place]], fit, None if store is None else store[place]),
            range(len(left)),
            progress=progress,
        )
        failures |= {int(left[place]): error for place, error in _failures(results).items()}
        places = np.array(
            [place for place, result in enumerate(results) if isinstance(result, bytes)],
            dtype=np.int64,
        )
        unreadable = tuple(
            Unreadable(
                self.ids[rows[number]], text_id(str(files[number])), failures[number].message
            )
            for number in sorted(failures)
        )
        if not len(places):
            raise SourceError(
                f"`{self.name}`: none of the {len(files)} image files can be read; the first is "
                f"`{unreadable[0].path}`: {unreadable[0].why}",
                hint="check the paths and the files",
            )
        kept = left[places]
        source = Pictures(
            [files[number] for number in kept],
            given[kept],
            classes=self.classes,
            ids=[self.ids[row] for row in rows[kept]],
            name=self.name,
            shape=shape,
            digests=[result for result in results if isinstance(result, bytes)],
            store=store,
            places=places,
        )
        return Taken(source, kept, unreadable)


def _default_fit(fit: Fit, headers: Sequence[Header]) -> Fit:
    sizes = {(head.height, head.width) for head in headers}
    size = (_DEFAULT_SIDE, _DEFAULT_SIDE)
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        if height == width <= _DEFAULT_SIDE:
            size = (height, width)
    channels = 1 if all(head.is_grey for head in headers) else 3
    return Fit(fit.size or size, fit.channels or channels)


def _digest(file: Path, fit: Fit, out: np.ndarray | None) -> bytes:
    assert fit.size is not None
    assert fit.channels is not None
    pixels = np.ascontiguousarray(decode_file(file, size=fit.size, channels=fit.channels))
    if out is not None:
        out[:] = pixels
    return hashlib.blake2b(pixels.data, digest_size=16).digest()


def _in_threads(
    work: Callable[[S], T], items: Sequence[S], *, progress: Progress | None = None
) -> list[T | UnreadableError]:
    """Do the work for each item in threads; a file that is unreadable gives its error."""

    def attempt(item: S) -> T | UnreadableError:
        try:
            return work(item)
        except UnreadableError as error:
            return error

    results: list[T | UnreadableError] = []
    # Pillow lets go of Python's lock while it decodes.
    with quiet_pillow(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), _BLOCK):
            results += pool.map(attempt, items[start : start + _BLOCK])
            if progress is not None:
                progress(len(results), len(items))
    return results


def _failures(results: Sequence[object]) -> dict[int, UnreadableError]:
    return {
        number: result
        for number, result in enumerate(results)
        if isinstance(result, UnreadableError)
    }
