"""Which data a ledger belongs to: ids, given labels, and the fingerprint of both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from errata.errors import LedgerError

__all__ = ["as_labels", "check_rows", "fingerprint", "what_differs"]


def fingerprint(ids: Sequence[str], given: np.ndarray) -> str:
    """Name the data by ids and given labels, in their order: 32 hexadecimal digits.

    Example:
        >>> fingerprint(["a", "b"], np.array([0, 1])) == fingerprint(["a", "b"], np.array([0, 0]))
        False
    """
    hasher = hashlib.blake2b(digest_size=16)
    for name in ids:
        # The length goes first, so that ("ab", "c") and ("a", "bc") differ.
        text = name.encode("utf-8", "surrogatepass")
        hasher.update(len(text).to_bytes(8, "little"))
        hasher.update(text)
    hasher.update(np.ascontiguousarray(given, dtype="<i8").tobytes())
    return hasher.hexdigest()


def as_labels(given: Tensor | np.ndarray | Sequence[int]) -> np.ndarray:
    """Copy given labels into an int64 array [N].

    Raises:
        LedgerError: They are not one whole number per row.
    """
    labels = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise LedgerError(
            f"given labels are `{labels.dtype}` of shape `{labels.shape}`; "
            "allowed: one whole number per row",
            hint="pass class numbers, -1 for unlabelled",
        )
    return labels.astype(np.int64)


def check_rows(ids: tuple[str, ...], labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuse ids, labels and classes that do not fit each other.

    Raises:
        LedgerError: Lengths differ, a name is repeated or no text, or a label is out of range.
    """
    if not ids or len(ids) != len(labels):
        raise LedgerError(
            f"got {len(ids)} ids and {len(labels)} labels; "
            "allowed: one label per id, at least one row",
            hint="pass both from the same source",
        )
    for kind, names in (("id", ids), ("class", classes)):
        _check_names(kind, names)
    wrong = np.flatnonzero((labels < -1) | (labels >= len(classes)))
    if wrong.size:
        raise LedgerError(
            f"label `{labels[wrong[0]]}` of id `{ids[wrong[0]]}` is out of range; "
            f"allowed: 0 to {len(classes) - 1}, or -1 for unlabelled",
            hint="pass class numbers that fit the names of the classes",
        )


def _check_names(kind: str, names: tuple[str, ...]) -> None:
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise LedgerError(
                f"{kind} `{name!r}` at place {row} is not text; allowed: str",
                hint=f"use str({kind})" if kind == "id" else "pass the names of the classes",
            )
    if not names or len(set(names)) != len(names):
        repeated = [name for name, times in Counter(names).items() if times > 1]
        found = f"{kind} `{repeated[0]}` is repeated" if repeated else f"there is no {kind}"
        raise LedgerError(
            f"{found}; allowed: at least one, each name once", hint="rename or remove the repeats"
        )


def what_differs(
    ids: tuple[str, ...], given: np.ndarray, new_ids: tuple[str, ...], new_given: np.ndarray
) -> str:
    """Say in words how two data sets differ."""
    missing, added = len(set(ids) - set(new_ids)), len(set(new_ids) - set(ids))
    if missing or added or len(ids) != len(new_ids):
        return f"ids of the ledger that are missing now: {missing}; new ids: {added}"
    if ids != new_ids:
        return "the ids are the same in another order"
    return f"the ids are the same; given labels that differ: {int((given != new_given).sum())}"
