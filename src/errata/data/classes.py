"""Class names and class numbers: how labels of any form become numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import numpy as np

from errata.data.ids import plain_text, texts
from errata.errors import SourceError

__all__ = ["class_numbers", "listed_classes", "match_classes", "name_numbers", "sorted_names"]


def class_numbers(
    y: np.ndarray,
    *,
    ids: Sequence[str],
    classes: Sequence[str] | None,
    match: Sequence[str] | None,
    where: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn the labels of an array into class numbers and class names.

    Whole numbers count the names of `classes`, else those of `match`; but names that are numbers
    themselves are matched as names. Without both, every number that occurs is a class of its own.
    Text labels are class names. -1 and empty text mean unlabelled.

    Args:
        y: [N] labels: whole numbers (floats that are whole are accepted) or text.
        ids: Keys of the rows, to name a bad one.
        classes: Names of the classes that come with the labels.
        match: Class names of another source that have to be used.
        where: How to call the labels in messages.

    Returns:
        [N] int64 class numbers, and the class names.

    Raises:
        SourceError: A label is NaN, not whole, or out of range, or its type is not allowed.
    """
    if y.dtype.kind in "US":
        names = [plain_text(label) for label in texts(y)]
        return name_numbers(names, ids=ids, classes=classes, match=match, where=where)
    numbers = _whole_numbers(y, ids=ids, where=where)
    if classes is None and match is not None and all(_is_whole(label) for label in match):
        names = [str(number) for number in numbers.tolist()]
        return name_numbers(names, ids=ids, match=match, where=where)
    if classes is None and match is None:
        present = np.unique(numbers[numbers >= 0])
        _check_range(numbers, None, ids=ids, where=where)
        given = np.where(numbers < 0, -1, np.searchsorted(present, numbers))
        return given.astype(np.int64), tuple(str(label) for label in present.tolist())
    own = list(match or ()) if classes is None else list(classes)
    _check_unique(own, where=where)
    _check_range(numbers, len(own), ids=ids, where=where)
    return match_classes(numbers, own, match, where=where)


def name_numbers(
    names: Sequence[str],
    *,
    ids: Sequence[str],
    classes: Sequence[str] | None = None,
    match: Sequence[str] | None,
    where: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn class names into class numbers; the empty name and ``-1`` mean unlabelled.

    Without `classes` and `match` the classes are the names that occur, sorted. Where all of them
    are whole numbers, however written (`3`, `3.0`), they are sorted as numbers.

    Raises:
        SourceError: A name is not among the classes, or is NaN among numbers.
    """
    plain = _plain_numbers(names, ids=ids, where=where)
    own = list(classes) if classes is not None else list(match or ()) or sorted_names(set(plain))
    _check_unique(own, where=where)
    index = {label: number for number, label in enumerate(own)}
    # A label written exactly like a class wins over the same number in another notation.
    given = np.array(
        [
            index.get(raw, index.get(name, -2)) if name else -1
            for raw, name in zip(names, plain, strict=True)
        ],
        dtype=np.int64,
    )
    strange = np.flatnonzero(given == -2)
    if len(strange):
        name = names[strange[0]]
        raise SourceError(
            f"{where} has labels that are no class in {len(strange)} rows, first `{name}` in the "
            "row with id "
            f"`{ids[strange[0]]}`; allowed: {listed_classes(own)}",
            hint=_near(name, own),
        )
    return match_classes(given, own, match, where=where)


def match_classes(
    given: np.ndarray, own: Sequence[str], match: Sequence[str] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Renumber labels so that they count the names of `match`; unchanged where `match` is None.

    Raises:
        SourceError: A class that has rows is not among the names to match.
    """
    if match is None or tuple(match) == tuple(own):
        return given, tuple(own)
    index = {label: number for number, label in enumerate(match)}
    table = np.array([index.get(label, -2) for label in own] + [-1], dtype=np.int64)
    # The last place of the table is reached by -1, the unlabelled rows.
    matched = table[given]
    if (matched == -2).any():
        strange = sorted_names({own[number] for number in np.unique(given[matched == -2])})
        raise SourceError(
            f"{where} has {len(strange)} classes that the training set has not, first "
            f"`{strange[0]}`; "
            f"allowed: {listed_classes(match)}",
            hint=_near(strange[0], match),
        )
    return matched, tuple(match)


def sorted_names(names: set[str]) -> list[str]:
    """Sort class names, as numbers where all are whole; the empty name is left out."""
    kept = sorted(name for name in names if name)
    if all(_is_whole(name) for name in kept):
        kept.sort(key=int)
    return kept


def listed_classes(classes: Sequence[str]) -> str:
    """Write class names for a message, the first ten of many."""
    head = ", ".join(f"`{label}`" for label in classes[:10])
    return head if len(classes) <= 10 else f"{head} and {len(classes) - 10} more"


def _near(name: str, classes: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, classes, n=1, cutoff=0.4)
    return f"did you mean `{near[0]}`?" if near else "classes are matched by name"


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19


def _plain_numbers(names: Sequence[str], *, ids: Sequence[str], where: str) -> list[str]:
    """Write whole numbers in one way, and unlabelled as the empty name."""
    labelled = {name for name in names if name not in ("", "-1")}
    try:
        numbers = {name: float(name) for name in labelled}
    except ValueError:
        numbers = {}
    if numbers and any(math.isnan(number) for number in numbers.values()):
        row = next(row for row, name in enumerate(names) if math.isnan(numbers.get(name, 0.0)))
        raise SourceError(
            f"{where} has the label `{names[row]}` in the row with id `{ids[row]}`; allowed: a "
            "class",
            hint="leave the cell empty if the row is unlabelled",
        )
    plain = {"-1": ""}
    if numbers and all(number.is_integer() for number in numbers.values()):
        plain.update({name: str(int(number)) for name, number in numbers.items()})
        plain.update({name: "" for name, number in numbers.items() if number == -1})
    return [plain.get(name, name) for name in names]


def _whole_numbers(y: np.ndarray, *, ids: Sequence[str], where: str) -> np.ndarray:
    if y.dtype.kind not in "buif":
        raise SourceError(f"{where} has the type `{y.dtype}`; allowed: whole numbers or text")
    if y.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(y) | (y != np.floor(y)) | (np.abs(y) > 2**53))
        if len(bad):
            raise SourceError(
                f"{where} has {len(bad)} labels that are no whole numbers, first `{y[bad[0]]}` "
                "in the row with id "
                f"`{ids[bad[0]]}`; allowed: class numbers, -1 for unlabelled",
                hint="write -1 where the label is missing",
            )
    if y.dtype.kind == "u" and len(y) and int(y.max()) > np.iinfo(np.int64).max:
        raise SourceError(f"{where} has the label `{y.max()}`; allowed: class numbers")
    return y.astype(np.int64)


def _check_range(numbers: np.ndarray, count: int | None, *, ids: Sequence[str], where: str) -> None:
    wrong = numbers < -1
    if count is not None:
        wrong |= numbers >= count
    bad = np.flatnonzero(wrong)
    if len(bad):
        top = "" if count is None else f" to {count - 1}"
        raise SourceError(
            f"{where} has {len(bad)} labels out of range, first `{numbers[bad[0]]}` in the row "
            "with id "
            f"`{ids[bad[0]]}`; allowed: 0{top or ' and above'}, or -1 for unlabelled"
        )


def _check_unique(names: Sequence[str], *, where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise SourceError(f"{where} names the class `{twice}` twice; allowed: unique class names")
