"""Near-duplicates among the suspects: the same picture, saved again, smaller or compressed.

A picture is compared as a small copy of it, a choice of ours, as is the limit. Of 150 photographs
saved again at half the size with JPEG quality 60, half differ by less than 0.085 of their contrast
and all by less than 0.18; no two of the photographs are nearer than 0.50, and no two of the 1,797
digits of 8 x 8 pixels nearer than 0.11. The limit is low, as a wrong group hides a suspect.

Shapes: N rows, n pictures, D numbers of a small copy.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_near", "near_groups", "small_copy"]

MOST_ROWS = 1000
"""Suspects that are compared; each picture of them is read once, before the review begins."""

_SIDE = 16
_LIMIT = 0.1
"""Largest distance of two small copies, relative to the smaller of their contrasts."""

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def near_groups(
    show: Callable[[int], bytes] | None, suspects: Iterable[int], num_rows: int
) -> Ints | None:
    """Number the groups of near-duplicates among suspects.

    Args:
        show: Gives the picture of a row as an encoded file; None where there are none.
        suspects: Rows, worst first; the first `MOST_ROWS` are compared.
        num_rows: N.

    Returns:
        [N] numbers of groups: that of its first suspect, or a row's own number where it has no
        near-duplicate. None where no two suspects are near-duplicates.
    """
    if show is None:
        return None
    rows, copies = [], []
    for row in list(suspects)[:MOST_ROWS]:
        try:
            copies.append(small_copy(show(row)))
            rows.append(row)
        except Exception as error:
            # A picture that cannot be read has no duplicates; the page says that it is missing.
            _log.debug("no small copy of row %d: %s", row, error)
    if not rows:
        return None
    first = group_near(np.stack(copies))
    if len(np.unique(first)) == len(first):
        return None
    groups = np.arange(num_rows, dtype=np.int64)
    places = np.array(rows, dtype=np.int64)
    groups[places] = places[first]
    return groups


def small_copy(encoded: bytes) -> Floats:
    """Shrink a picture to numbers [D] that do not depend on its size.

    Raises:
        OSError: It is no picture.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        # Large JPEGs are decoded small at once, which takes a tenth of the time.
        image.draft("RGB", (4 * _SIDE, 4 * _SIDE))
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32).reshape(-1)


def group_near(copies: Floats) -> Ints:
    """Give each small copy the place of the first one that it is near to, or its own.

    Only the first of a group is compared with, so that no chain of small steps joins what differs.

    Args:
        copies: [n, D].

    Returns:
        [n] places, each at most the place itself.

    Example:
        >>> base = np.linspace(0, 255, 12, dtype=np.float32)
        >>> group_near(np.stack([base, base[::-1], base + 2])).tolist()
        [0, 1, 0]
    """
    centred = copies.astype(np.float64) - copies.mean(dtype=np.float64)
    squares = (centred**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0))
    # An even picture has no contrast to compare with; the floor is one grey level.
    contrast = np.maximum(copies.std(axis=1), 1) * np.sqrt(copies.shape[1])
    near = distance <= _LIMIT * np.minimum(contrast[:, None], contrast)
    first = np.arange(len(copies), dtype=np.int64)
    for place in range(len(copies)):
        if first[place] == place:
            mine = near[place] & (first == np.arange(len(copies)))
            mine[:place] = False
            first[mine] = place
    return first
