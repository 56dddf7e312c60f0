"""Neighbours in somebody's features: which labels they have, and what that says of a row.

Shapes: N rows, D features, k neighbours, C classes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import torch

from errata.blocks import Blocks
from errata.errors import SettingsError
from errata.features.module import read_features
from errata.features.neighbours import nearest, nearest_by_faiss
from errata.record import Reason

__all__ = [
    "label_counts",
    "labelled_neighbours",
    "neighbour_disagreement",
    "neighbour_reason",
]

K = 10
_NAMED = 5
_MANY = 200_000
"""Labelled rows above which faiss does the search, where it is installed."""


def labelled_neighbours(
    features: Blocks,
    given: np.ndarray,
    *,
    k: int = K,
    rows: np.ndarray | None = None,
    metric: str = "cosine",
) -> np.ndarray:
    """Give the `k` nearest labelled rows [n, k] of rows, nearest first, ties by the lower row.

    Exact, see `errata.features.neighbours.nearest`: time grows with N squared. Above 200,000
    labelled rows faiss does the search where it is installed, with the same answer but for rare
    ties, see `errata.features.neighbours.nearest_by_faiss`.

    Args:
        features: [N, D] finite numbers.
        given: [N] class numbers; rows of -1 are no neighbours, but may have some.
        k: 1 or more; fewer columns come back where fewer rows have labels.
        rows: [n] rows that are asked about; None is all.
        metric: ``cosine`` or ``euclidean``.

    Raises:
        SourceError: The features do not fit the labels, or are no finite numbers.
        SettingsError: `k` is not allowed.
    """
    if k < 1:
        raise SettingsError(f"k `{k}` is not allowed; allowed: 1 or more")
    table = read_features(features, len(given))
    among = torch.from_numpy(np.flatnonzero(given >= 0))
    asked = None if rows is None else torch.from_numpy(np.asarray(rows, dtype=np.int64))
    has_many = len(among) > _MANY and importlib.util.find_spec("faiss") is not None
    search = nearest_by_faiss if has_many else nearest
    return search(table, k=k, metric=metric, among=among, queries=asked).rows.numpy()


def label_counts(near: np.ndarray, given: np.ndarray, *, classes: int) -> np.ndarray:
    """Count the labels [n, C] of the neighbours of each row.

    Args:
        near: [n, k] labelled rows.
        given: [N] class numbers.
        classes: C.

    Example:
        >>> label_counts(np.array([[1, 2], [0, 2], [0, 1]]), np.array([0, 0, 1]), classes=2)
        array([[1, 1],
               [1, 1],
               [2, 0]])
    """
    labels = given[near]
    codes = labels + classes * np.arange(len(near))[:, None]
    return np.bincount(codes.ravel(), minlength=len(near) * classes).reshape(len(near), classes)


def neighbour_disagreement(features: Blocks, given: np.ndarray, *, k: int = K) -> np.ndarray:
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
    rows = np.flatnonzero(given >= 0)
    near = labelled_neighbours(features, given, k=k, rows=rows)
    found = np.full(len(given), np.nan)
    if near.shape[1]:
        found[rows] = (given[near] != given[rows][:, None]).mean(1)
    return found


def neighbour_reason(
    row: int,
    near: np.ndarray,
    given: np.ndarray,
    *,
    name: Callable[[int], str] = str,
    key: Callable[[int], str] = str,
) -> Reason:
    """Say in words how the nearest rows are labelled, and which they are.

    Args:
        row: The row that is explained.
        near: [k] its nearest labelled rows, nearest first, at least one.
        given: [N] class numbers.
        name: Gives the name of a class.
        key: Gives the id of a row.

    Example:
        >>> labels = np.array([0, 1, 1, 2, 0])
        >>> neighbour_reason(0, np.array([2, 1, 4, 3]), labels).text
        '3 of the 4 nearest rows have another label, 2 of them `1`: 2 (1), 1 (1), 4 (0), 3 (2)'
    """
    labels = given[near]
    others = labels[labels != given[row]]
    listed = ", ".join(
        f"{key(int(r))} ({name(int(label))})"
        for r, label in zip(near[:_NAMED], labels[:_NAMED], strict=True)
    )
    which = f"{len(others)} of the" if 0 < len(others) < len(near) else "all"
    who = f"{which} {len(near)} nearest rows have" if len(near) > 1 else "the nearest row has"
    words = f"{who} {'another' if len(others) else 'this'} label"
    if len(others) and len(near) > 1:
        best = int(np.bincount(others).argmax())
        count = int((others == best).sum())
        words += f", {'all' if count == len(others) else count} of them `{name(best)}`"
    return Reason("neighbours", len(others) / len(near), f"{words}: {listed}")
