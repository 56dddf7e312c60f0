"""Reading a verdict that came in, from JSON or from a plain form. Nothing here touches the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

__all__ = [
    "Answer",
    "Batch",
    "RefusedError",
    "read_answer",
    "read_batch",
    "read_batch_form",
    "read_form",
    "read_json",
]

VERDICTS = ("keep", "relabel", "drop", "unsure", "undo")
_MOST_SECONDS = 86_400.0
_LONGEST_UID = 100
_MOST_ROWS = 200


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What is wrong with the value, and what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Answer:
    """What a person decided about a row, checked."""

    uid: str
    row: int
    verdict: str
    label: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Batch:
    """What a person decided about several rows at once, checked."""

    uid: str
    rows: tuple[int, ...]
    verdict: str
    """``relabel`` (rows that have the label already are kept), ``keep``, ``drop`` or ``undo``."""
    label: str | None = None
    seconds: float | None = None
    """How long the person looked at all of them."""

    def uid_of(self, row: int) -> str:
        """Give the id of the verdict on one of the rows."""
        return f"{self.uid}:{row}"


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RefusedError: The body is no such thing (400).
    """
    try:
        # Not a number of JSON, though Python would read it.
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is no JSON in UTF-8; allowed: one JSON object") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is no JSON object")
    return found


def read_form(body: bytes) -> dict[str, Any]:
    """Read the fields of an HTML form; numbers become numbers, empty fields are left out.

    Raises:
        RefusedError: The body is no such thing (400).
    """
    pairs = _pairs(body, most=20)
    fields: dict[str, Any] = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedError(400, "a field of the form is there twice")
    return _with_numbers(fields)


def read_batch_form(body: bytes) -> dict[str, Any]:
    """Read the fields of a form with one ``row`` for each row that is ticked.

    Raises:
        RefusedError: The body is no such thing (400).
    """
    pairs = _pairs(body, most=_MOST_ROWS + 20)
    fields: dict[str, Any] = {"rows": [_number(text) for name, text in pairs if name == "row"]}
    others = [(name, text) for name, text in pairs if name != "row"]
    fields |= dict(others)
    if len(fields) != len(others) + 1:
        raise RefusedError(400, "a field of the form is there twice")
    if "label" in fields:
        # A button carries one value, and that is the label.
        fields.setdefault("verdict", "relabel")
    return _with_numbers(fields)


def read_answer(fields: Mapping[str, Any], *, num_rows: int, classes: Collection[str]) -> Answer:
    """Check every field of a verdict.

    Args:
        fields: `uid`, `row`, `verdict`, and if wanted `label` and `seconds`; nothing else.
        num_rows: Rows of the audit.
        classes: Names of its classes.

    Raises:
        RefusedError: A field is not allowed (400), or the audit has no such row (404).

    Example:
        >>> read_answer({"uid": "a", "row": 3, "verdict": "keep"}, num_rows=9, classes=["cat"])
        Answer(uid='a', row=3, verdict='keep', label=None, seconds=None)
    """
    unknown = sorted(set(fields) - {"uid", "row", "verdict", "label", "seconds"})
    if unknown:
        raise RefusedError(400, f"field `{unknown[0][:40]}` is unknown")
    uid, row, verdict = fields.get("uid"), fields.get("row"), fields.get("verdict")
    if not isinstance(uid, str) or not 0 < len(uid) <= _LONGEST_UID or not uid.isprintable():
        raise RefusedError(
            400, f"`uid` is not usable; allowed: 1 to {_LONGEST_UID} printable characters"
        )
    if not isinstance(row, int) or isinstance(row, bool):
        raise RefusedError(400, "`row` is no whole number")
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        raise RefusedError(400, f"`verdict` is unknown; allowed: {', '.join(VERDICTS)}")
    if not 0 <= row < num_rows:
        raise RefusedError(404, f"row `{row}` is not in this audit; allowed: 0 to {num_rows - 1}")
    label = _label(fields.get("label"), verdict, classes)
    return Answer(uid, row, verdict, label, _seconds(fields.get("seconds")))


def read_batch(fields: Mapping[str, Any], *, num_rows: int, classes: Collection[str]) -> Batch:
    """Check every field of a verdict on several rows.

    Args:
        fields: `uid`, `rows`, `verdict`, and if wanted `label` and `seconds`; nothing else.
        num_rows: Rows of the audit.
        classes: Names of its classes.

    Raises:
        RefusedError: A field is not allowed (400), or the audit has no such row (404).

    Example:
        >>> fields = {"uid": "a", "rows": [3, 4], "verdict": "keep"}
        >>> read_batch(fields, num_rows=9, classes=["cat"]).uid_of(3)
        'a:3'
    """
    rows = fields.get("rows")
    if not isinstance(rows, list) or not 0 < len(rows) <= _MOST_ROWS:
        raise RefusedError(400, f"no row is ticked, or too many are; allowed: 1 to {_MOST_ROWS}")
    if fields.get("verdict") == "unsure":
        raise RefusedError(400, "`unsure` is for one row; leave rows out that you are unsure of")
    others = {name: value for name, value in fields.items() if name not in ("rows", "row")}
    if "row" in fields:
        raise RefusedError(400, "field `row` is unknown; the rows are in `rows`")
    read = [read_answer({**others, "row": row}, num_rows=num_rows, classes=classes) for row in rows]
    found = tuple(answer.row for answer in read)
    if len(set(found)) != len(found):
        raise RefusedError(400, "a row is there twice")
    first = read[0]
    # The id of each verdict has the row behind it.
    if len(first.uid) > _LONGEST_UID - 13:
        raise RefusedError(400, f"`uid` is too long; allowed: {_LONGEST_UID - 13} characters")
    return Batch(first.uid, found, first.verdict, first.label, first.seconds)


def _pairs(body: bytes, *, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=most)
    except ValueError:
        raise RefusedError(400, "the body is no form in UTF-8") from None


def _number(text: str) -> int | str:
    """Read plain digits; anything else stays text, to be refused as such."""
    plain = text.isascii() and text.isdecimal() and len(text) <= 12
    return int(text) if plain else text


def _with_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    if "row" in fields:
        fields["row"] = _number(fields["row"])
    if "seconds" in fields:
        try:
            fields["seconds"] = float(fields["seconds"])
        except ValueError:
            raise RefusedError(400, "`seconds` is no number") from None
    return fields


def _label(label: Any, verdict: str, classes: Collection[str]) -> str | None:
    if verdict != "relabel":
        if label is not None:
            raise RefusedError(400, f"`{verdict}` has no `label`; leave it out")
        return None
    if label is None:
        raise RefusedError(400, "`relabel` needs `label`, the name of a class")
    if not isinstance(label, str) or label not in classes:
        raise RefusedError(400, "`label` is not a class of this audit")
    return label


def _seconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise RefusedError(400, "`seconds` is no number")
    if not math.isfinite(seconds) or not 0 <= seconds <= _MOST_SECONDS:
        raise RefusedError(400, f"`seconds` is out of range; allowed: 0 to {_MOST_SECONDS:.0f}")
    return float(seconds)


def _no_constant(name: str) -> float:
    raise ValueError(name)
