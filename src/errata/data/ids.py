"""Ids of rows: unique, plain text, on one line each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from errata.errors import SourceError

__all__ = ["check_ids", "plain_text", "text_id", "texts", "user_ids"]


def text_id(name: str) -> str:
    r"""Write a file name as an id that is plain text on one line.

    Bytes that do not belong in text, control characters and line separators are percent-encoded,
    and so is a `%` that would read as such a code. ``urllib.parse.unquote_to_bytes`` gives the
    bytes of the name back.

    Example:
        >>> text_id("caf\udce9, 100 %.png"), text_id("a\nb"), text_id("50%20.png")
        ('caf%E9, 100 %.png', 'a%0Ab', '50%2520.png')
    """
    name = re.sub(r"%(?=[0-9a-fA-F]{2})", "%25", name)
    if name.isprintable():
        return name
    return "".join(_encoded(char) if _is_unfit(char) else char for char in name)


def plain_text(text: str) -> str:
    """Give a chosen name as it is, or as by `text_id` where it is not fit for one line."""
    return text if text.isprintable() else text_id(text)


def user_ids(values: np.ndarray | None, *, count: int, where: str) -> list[str]:
    """Check ids that the user chose, one for each row; row numbers by default.

    Raises:
        SourceError: The ids are of another number, or one is empty or occurs twice.
    """
    if values is None:
        return [str(row) for row in range(count)]
    if np.shape(values) != (count,):
        raise SourceError(
            f"{where}: `ids` has the shape `{np.shape(values)}`, but there are {count} rows; "
            "allowed: one id for each row"
        )
    if values.dtype.kind not in "USiu":
        raise SourceError(
            f"{where}: `ids` has the type `{values.dtype}`; allowed: text or whole numbers"
        )
    return check_ids(texts(values), where=where)


def texts(values: np.ndarray) -> list[str]:
    """Turn an array [N] of text, bytes or whole numbers into a list of text."""
    if values.dtype.kind == "S":
        return [value.decode("utf-8", "surrogateescape") for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def check_ids(ids: Sequence[str], *, where: str) -> list[str]:
    """Give ids as one-line text, and fail where one is empty or occurs twice.

    Raises:
        SourceError: An id is empty or occurs twice.
    """
    # Ids that are fit for one line stay as the user wrote them, codes with `%` included.
    plain = [plain_text(value) for value in ids]
    seen: dict[str, int] = {}
    for row, value in enumerate(plain):
        if not value:
            raise SourceError(f"{where} has an empty id in row {row}; allowed: a unique id")
        if value in seen:
            raise SourceError(
                f"{where} has the id `{value}` twice, in rows {seen[value]} and {row}; allowed: "
                "unique ids",
                hint="remove one of the rows or give it another id",
            )
        seen[value] = row
    return plain


def _is_unfit(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def _encoded(char: str) -> str:
    try:
        raw = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = char.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in raw)
