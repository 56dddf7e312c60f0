"""Verification labels: for some rows a person said whether the given label is right.

Shapes: N training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errata.data.classes import name_numbers
from errata.data.found import Found
from errata.data.ids import plain_text, text_id
from errata.data.labels import rows_of
from errata.data.table import read_columns
from errata.errors import SourceError

__all__ = ["Verified", "read_verified_file"]

_WORDS = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0, "": -1}


@dataclass(frozen=True, eq=False)
class Verified:
    """What people found of some given labels.

    Attributes:
        correct: [N] int64: 1 right, 0 wrong, -1 unknown.
        label: [N] int64 class that a person gave, -1 where none.
    """

    correct: np.ndarray
    label: np.ndarray

    def take(self, places: np.ndarray) -> Verified:
        """Keep these rows."""
        return Verified(self.correct[places], self.label[places])

    def against(self, given: np.ndarray) -> np.ndarray:
        """Judge given labels [N]: 1 right, 0 wrong, -1 unknown.

        Example:
            >>> seen = Verified(np.array([-1, 1, -1]), np.array([2, -1, -1]))
            >>> seen.against(np.array([0, 1, 2])).tolist()
            [0, 1, -1]
        """
        judged = np.where(self.label >= 0, self.label == given, self.correct)
        return np.asarray(judged, dtype=np.int64)


def read_verified_file(path: Path, found: Found) -> Verified:
    """Read a csv file with the columns `id` and `is_correct`, or `id` and `label`.

    Rows that it does not mention, and empty cells, are unknown.

    Raises:
        SourceError: The file lacks the columns, or has an id, a label or a word that is unknown.
    """
    where = f"`{text_id(str(path))}`"
    columns = read_columns(path, needed=("id",))
    rows = rows_of(columns["id"], found, where)
    correct = np.full(len(found.ids), -1, dtype=np.int64)
    label = correct.copy()
    if "is_correct" in columns:
        pairs = zip(columns["is_correct"], columns["id"], strict=True)
        correct[rows] = [_judgement(cell, key, where) for cell, key in pairs]
    elif "label" in columns:
        texts: Sequence[str] = [plain_text(cell) for cell in columns["label"]]
        label[rows], _ = name_numbers(texts, ids=columns["id"], match=found.classes, where=where)
    else:
        raise SourceError(
            f"{where} has neither a column `is_correct` nor a column `label`; allowed: one of them "
            "beside `id`",
            hint="write `id,is_correct` with 1 where the given label is right and 0 where not",
        )
    if (np.concatenate([correct[rows], label[rows]]) < 0).all():
        raise SourceError(
            f"{where} verifies no row; allowed: at least one cell that is not empty",
            hint="fill in the column `is_correct` or `label`",
        )
    return Verified(correct, label)


def _judgement(cell: str, key: str, where: str) -> int:
    word = cell.strip().lower()
    if word not in _WORDS:
        raise SourceError(
            f"{where} has the judgement `{text_id(cell)}` for the id `{text_id(key)}`; allowed: 1 "
            "(right), 0 (wrong), true, false, yes, no, or empty for unknown"
        )
    return _WORDS[word]
