"""Files that replace given labels or tell the true ones, and equal pictures whose labels differ."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from errata.data.classes import class_numbers, name_numbers
from errata.data.found import Found
from errata.data.ids import plain_text, text_id
from errata.data.pictures import Pictures
from errata.data.table import read_columns
from errata.errors import SourceError
from errata.types import Source

__all__ = ["find_conflicts", "read_label_file", "read_truth_file", "rows_of"]

_BLOCK = 4096


def read_label_file(path: Path, found: Found) -> tuple[np.ndarray, np.ndarray | None]:
    """Replace given labels by those of a csv file `id,label[,weight]`; other columns are ignored.

    Ids that the file does not mention keep their given label and weigh 1. An empty label means
    unlabelled, an empty weight means 1.

    Returns:
        [N] int64 given labels, and [N] float32 weights where the file has such a column.

    Raises:
        SourceError: An id or a label is unknown, an id occurs twice, or a weight is no number of 0
            and above.
    """
    where = f"`{text_id(str(path))}`"
    columns = read_columns(path, needed=("id", "label"))
    rows = rows_of(columns["id"], found, where)
    labels = [plain_text(label) for label in columns["label"]]
    numbers, _ = name_numbers(labels, ids=columns["id"], match=found.classes, where=where)
    given = found.given.copy()
    given[rows] = numbers
    if "weight" not in columns:
        return given, None
    weights = np.ones(len(given), dtype=np.float32)
    weights[rows] = [
        _weight(cell, key, where)
        for cell, key in zip(columns["weight"], columns["id"], strict=True)
    ]
    return given, weights


def read_truth_file(path: Path, found: Found) -> np.ndarray:
    """Read true labels: a csv file `id,label`, an npz file, or an npy file [N] in row order.

    The npz file is what ``errata noise`` writes: `ids` and `clean`, the names of the classes.

    Rows that a csv file does not mention are unknown. Numbers of an npy file are class names where
    the classes are named by numbers, else class numbers.

    Returns:
        [N] int64 class numbers, -1 where unknown.

    Raises:
        SourceError: The file cannot be read, or does not fit the rows or the classes.
    """
    where = f"`{text_id(str(path))}`"
    if path.suffix.lower() != ".npy":
        if path.suffix.lower() == ".npz":
            columns = _read_npz_columns(path, where)
        else:
            columns = read_columns(path, needed=("id", "label"))
        truth = np.full(len(found.ids), -1, dtype=np.int64)
        rows = rows_of(columns["id"], found, where)
        labels = [plain_text(label) for label in columns["label"]]
        truth[rows], _ = name_numbers(labels, ids=columns["id"], match=found.classes, where=where)
        return truth
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SourceError(f"{where} cannot be read as an npy file: {error}") from error
    if not isinstance(values, np.ndarray) or values.shape != (len(found.ids),):
        raise SourceError(
            f"{where} has the shape `{np.shape(values)}`, but `{found.name}` has "
            f"{len(found.ids)} rows; allowed: one label for each row"
        )
    truth, _ = class_numbers(values, ids=found.ids, classes=None, match=found.classes, where=where)
    return truth


def _read_npz_columns(path: Path, where: str) -> dict[str, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"id": file["ids"].astype(str).tolist(), "label": file["clean"].tolist()}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{where} cannot be read as an npz file of true labels: {error}; allowed: `ids` and "
            "`clean`, as `errata noise` writes them",
            hint="write a csv file with the columns `id` and `label` instead",
        ) from error


def rows_of(ids: Sequence[str], found: Found, where: str) -> np.ndarray:
    """Find the rows [n] of ids in a file.

    Args:
        ids: [n] as the file has them.
        found: The source.
        where: Name of the file, for messages.

    Raises:
        SourceError: An id is unknown, or occurs twice.
    """
    index = {key: row for row, key in enumerate(found.ids)}
    # Files by other hands write a path as it is, ours as the id it became.
    rows = [index.get(key, index.get(text_id(key), -1)) for key in ids]
    strange = [key for key, row in zip(ids, rows, strict=True) if row < 0]
    if strange:
        raise SourceError(
            f"{where} has {len(strange)} ids that `{found.name}` has not, first "
            f"`{text_id(strange[0])}`; allowed: ids like `{found.ids[0]}`",
            hint="ids are the paths relative to the folder, the column `id`, or the row number "
            "from 0",
        )
    order = np.array(rows, dtype=np.int64)
    first, counts = np.unique(order, return_counts=True)
    if (counts > 1).any():
        twice = found.ids[int(first[counts > 1][0])]
        raise SourceError(f"{where} has the id `{twice}` twice; allowed: unique ids")
    return order


def _weight(cell: str, key: str, where: str) -> float:
    try:
        weight = float(cell) if cell.strip() else 1.0
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise SourceError(
            f"{where} has the weight `{text_id(cell)}` for the id `{text_id(key)}`; allowed: 0 "
            "and above, or empty for 1"
        )
    return weight


def find_conflicts(source: Source) -> tuple[tuple[int, ...], ...]:
    """Group labelled rows with identical pixels and differing labels, ordered by first row.

    Pictures are compared as decoded. Equal is what the 128-bit BLAKE2b hashes call equal.
    """
    labelled = np.flatnonzero(source.given >= 0).tolist()
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in zip(labelled, _digests(source, labelled), strict=True):
        groups[digest].append(row)
    return tuple(
        tuple(rows)
        for rows in groups.values()
        if len(rows) > 1 and len(set(source.given[rows].tolist())) > 1
    )


def _digests(source: Source, rows: list[int]) -> Iterator[bytes]:
    if isinstance(source, Pictures):
        yield from (source.digests[row] for row in rows)
        return
    for start in range(0, len(rows), _BLOCK):
        for sample in source.pixels(np.array(rows[start : start + _BLOCK])).numpy():
            yield hashlib.blake2b(sample, digest_size=16).digest()
