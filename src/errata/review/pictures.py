"""Pictures of rows in a form that every browser shows."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable

from errata.review.security import picture_kind

__all__ = ["browser_picture", "one_at_a_time"]

_log = logging.getLogger(__name__)


def browser_picture(show: Callable[[int], bytes], row: int) -> tuple[bytes, str] | None:
    """Ask for the picture of a row; gives the file and its media type, or None where there is none.

    Other formats than those of browsers are written anew as PNG.
    """
    try:
        encoded = show(row)
        if not encoded:
            return None
        kind = picture_kind(encoded)
        return (encoded, kind) if kind else (_as_png(encoded), "image/png")
    except Exception as error:
        # The source is a stranger's code over files that may have gone since the audit; one
        # missing picture must not end the review.
        _log.warning("no picture of row %d: %s", row, error)
        return None


def _as_png(encoded: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        file = io.BytesIO()
        image.convert("RGBA").save(file, "PNG")
        return file.getvalue()


def one_at_a_time(show: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Let several threads ask for pictures; a source need not know of threads."""
    lock = threading.Lock()

    def shown(row: int) -> bytes:
        with lock:
            return show(row)

    return shown
