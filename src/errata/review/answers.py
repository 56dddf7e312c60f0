"""Reading a verdict that came in, from JSON or from a plain form. Nothing here touches the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["Answer", "RefusedError", "read_answer", "read_form", "read_json"]

VERDICTS = ("keep", "relabel", "drop", "unsure", "undo")
_MOST_SECONDS = 86_400.0
_LONGEST_UID = 100


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
    try:
        pairs = parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=20)
    except ValueError:
        raise RefusedError(400, "the body is no form in UTF-8") from None
    fields: dict[str, Any] = dict(pairs)
    if len(fields) != len(pairs):
        raise RefusedError(400, "a field of the form is there twice")
    row, seconds = fields.get("row", ""), fields.get("seconds", "")
    if row.isascii() and row.isdecimal() and len(row) <= 12:
        fields["row"] = int(row)
    if seconds:
        try:
            fields["seconds"] = float(seconds)
        except ValueError:
            raise RefusedError(400, "`seconds` is no number") from None
    return fields


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
