"""Near-duplicates among the suspects: the same picture, saved again, resized or compressed.

A picture is compared as a small copy of it, made with a filter that hardly notices how large the
picture was. How near is near depends on the suspects: different photographs are far from one
another, different digits are not. The shares and limits are our choice; a wrong group hides a
suspect, so they are low. `tests/unit/test_review_near.py` holds what they reach.

Shapes: N rows, n pictures, f first pictures of groups, D numbers of a small copy.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FILE_NAME", "Grouper", "NearDuplicates", "near_duplicates", "small_copy"]

FILE_NAME = "near.npz"
"""What was found is kept in the audit under this name; without it, it is found again."""
MOST_ROWS = 20_000
"""Suspects that are compared."""
AT_ONCE = 500
"""Pictures that are compared at a time; the first ones before the review begins."""

_SIDE = 16
_SHARE, _LEAST, _MOST = 0.2, 0.06, 0.2
"""The limit is this share of the usual distance from a picture to the nearest other one, but not
beyond these. Distances are relative to the contrast of the pictures."""
_LEAST_CONTRAST = 4.0
"""Grey levels; an even picture has no contrast to compare with."""

_log = logging.getLogger(__name__)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@contextmanager
def near_duplicates(
    show: Callable[[int], bytes] | None, suspects: Iterable[int], num_rows: int, *, folder: Path
) -> Iterator[Ints | None]:
    """Group near-duplicates while the context lasts, see `NearDuplicates`.

    Args:
        show: Gives the picture of a row; None where there are none.
        suspects: Rows, worst first.
        num_rows: N.
        folder: The audit.

    Yields:
        [N] numbers of groups, which change in place; None without pictures.
    """
    if show is None:
        yield None
        return
    near = NearDuplicates(show, suspects, num_rows, folder=folder)
    near.start()
    try:
        yield near.groups
    finally:
        near.stop()


class NearDuplicates:
    """Groups of near-duplicates; the worst suspects first, the others while the review goes on.

    Args:
        show: Gives the picture of a row as an encoded file; it is called from another thread too.
        suspects: Rows, worst first; `MOST_ROWS` at most are compared.
        num_rows: N.
        folder: The audit, where the groups are kept once all are found; None keeps nothing.
    """

    def __init__(
        self,
        show: Callable[[int], bytes],
        suspects: Iterable[int],
        num_rows: int,
        *,
        folder: Path | None = None,
    ) -> None:
        self.groups: Ints = np.arange(num_rows, dtype=np.int64)
        """[N] numbers of groups: the first suspect's row, or a row's own. It changes in place."""
        self._show = show
        self._suspects = np.fromiter(suspects, dtype=np.int64)[:MOST_ROWS]
        self._file = None if folder is None else folder / FILE_NAME
        self._grouper = Grouper()
        self._firsts: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        """Group the worst suspects, then go on with the others in a thread."""
        if not self._recall():
            self._compare(self._suspects[:AT_ONCE])
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what it has not kept is found again the next time."""
        self._stopped.set()
        self.wait()

    def wait(self) -> None:
        """Wait until all suspects are grouped."""
        if self._thread.ident is not None:
            self._thread.join()

    def _go_on(self) -> None:
        for start in range(AT_ONCE, len(self._suspects), AT_ONCE):
            self._compare(self._suspects[start : start + AT_ONCE], rests=True)
            if self._stopped.is_set():
                return
        self._keep()

    def _compare(self, suspects: Ints, *, rests: bool = False) -> None:
        rows, copies = [], []
        for row in suspects.tolist():
            begun = time.perf_counter()
            try:
                copies.append(small_copy(self._show(row)))
                rows.append(row)
            except Exception as error:
                # A picture that cannot be read has no duplicates; the page says it is missing.
                _log.debug("no small copy of row %d: %s", row, error)
            # Whoever waits for a card goes first: no more than half of the time is used up.
            if rests and self._stopped.wait(time.perf_counter() - begun):
                return
        if rows:
            self._firsts += rows
            places = self._grouper.add(np.stack(copies))
            self.groups[rows] = np.array(self._firsts, dtype=np.int64)[places]

    def _recall(self) -> bool:
        """Read the groups of the same suspects, if they were kept."""
        if self._file is None:
            return False
        try:
            # Opened here, as numpy leaves a damaged archive open.
            with self._file.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                suspects, groups = kept["suspects"], kept["groups"]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return False
        fits = np.array_equal(suspects, self._suspects) and groups.shape == suspects.shape
        if not fits or not np.isin(groups, suspects).all():
            return False
        self.groups[self._suspects] = groups
        return True

    def _keep(self) -> None:
        if self._file is None:
            return
        partial = self._file.with_name(f".{FILE_NAME}.{threading.get_native_id()}")
        try:
            with partial.open("wb") as file:
                np.savez(file, suspects=self._suspects, groups=self.groups[self._suspects])
            partial.replace(self._file)
        except OSError as error:
            _log.debug("groups of near-duplicates are not kept: %s", error)


def small_copy(encoded: bytes) -> Floats:
    """Shrink a picture to numbers [D] that do not depend on its size.

    Raises:
        OSError: It is no picture.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        # Large JPEGs are decoded smaller at once, which takes a fraction of the time.
        image.draft("RGB", (8 * _SIDE, 8 * _SIDE))
        # Of Pillow's filters, this one differs least between sizes of the same picture.
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small, dtype=np.float32).reshape(-1)


class Grouper:
    """Puts small copies into groups as they come.

    Only the first of a group is compared with, so that no chain of small steps joins what differs.
    How near is near is settled by the copies that come first.

    Example:
        >>> base = np.linspace(0, 255, 12, dtype=np.float32)
        >>> Grouper().add(np.stack([base, base[::-1], base + 1])).tolist()
        [0, 1, 0]
    """

    def __init__(self) -> None:
        self._limit: float | None = None
        self._count = 0
        self._places: Ints = np.zeros(0, dtype=np.int64)
        self._firsts: list[Floats] = []

    def add(self, copies: Floats) -> Ints:
        """Give each small copy the place of the first one that it is near to, or its own.

        Args:
            copies: [n, D], grey levels 0 to 255.

        Returns:
            [n] places among all that were added, in their order.
        """
        if self._limit is None:
            self._limit = _limit(copies)
        found = np.arange(self._count, self._count + len(copies), dtype=np.int64)
        self._count += len(copies)
        joined: Bools = np.zeros(len(copies), dtype=bool)
        if self._firsts:
            near = _distances(copies, np.concatenate(self._firsts)) <= self._limit
            joined[:] = near.any(axis=1)
            found[joined] = self._places[near[joined].argmax(axis=1)]
        near = _distances(copies, copies) <= self._limit
        firsts = []
        for place in np.flatnonzero(~joined):
            if not joined[place]:
                firsts.append(place)
                mine = near[place] & ~joined
                mine[:place] = False
                found[mine] = found[place]
                joined |= mine
        self._firsts.append(copies[firsts])
        self._places = np.concatenate([self._places, found[firsts]])
        return found


def _limit(copies: Floats) -> float:
    """Settle how near near-duplicates are, by how near different pictures are."""
    if len(copies) < 2:
        return _LEAST
    distances = _distances(copies, copies)
    np.fill_diagonal(distances, np.inf)
    # The median is that of different pictures as long as fewer than half have a duplicate.
    usual = float(np.median(distances.min(axis=1)))
    return min(max(_SHARE * usual, _LEAST), _MOST)


def _distances(copies: Floats, firsts: Floats) -> Floats:
    """Measure how far copies [n, D] are from others [f, D], relative to the smaller contrast."""
    ours, theirs = copies - np.float32(128), firsts - np.float32(128)
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1) - 2 * ours @ theirs.T
    contrasts = [
        np.maximum(some.std(axis=1), _LEAST_CONTRAST) * np.sqrt(some.shape[1])
        for some in (copies, firsts)
    ]
    found: Floats = np.sqrt(np.maximum(squares, 0)) / np.minimum(
        contrasts[0][:, None], contrasts[1]
    )
    return found
