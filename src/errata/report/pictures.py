"""Pictures of samples, small enough to travel inside the page."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass

from errata.errors import SettingsError

__all__ = ["Picture", "inline_picture", "picture_of"]

LONGEST = 256
"""Longest side of a picture in the page; larger ones are scaled down."""
TINY = 96
"""Pictures below this are enlarged by the browser with sharp pixels."""
_LIGHT = 24_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture as a data address.

    Attributes:
        uri: ``data:image/...;base64,...``.
        width: Of the encoded picture [pixels].
        height: Of the encoded picture [pixels].
    """

    uri: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        """Whether single pixels should be seen when it is enlarged."""
        return max(self.width, self.height) <= TINY


def picture_of(show: Callable[[int], bytes], row: int) -> Picture | None:
    """Ask for the picture of a row; None where there is none or it cannot be had any more."""
    try:
        encoded = show(row)
        return inline_picture(encoded) if encoded else None
    except SettingsError:
        raise
    except Exception as error:
        # The source is a stranger's code over files that may have gone since the audit; one
        # missing picture must not cost the reader the rest of the report.
        _log.warning("no picture of row %d: %s", row, error)
        return None


def inline_picture(encoded: bytes) -> Picture:
    """Make a data address, of a picture scaled down and encoded anew where it is large.

    Args:
        encoded: A file in any format that Pillow reads.

    Raises:
        OSError: The bytes are no picture.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise SettingsError(
            "package `pillow` is missing; the report shows pictures with it",
            hint="pip install 'errata[report]'",
        ) from None

    with Image.open(io.BytesIO(encoded)) as image:
        fits = max(image.size) <= LONGEST and len(encoded) <= _LIGHT
        if fits and image.format in ("PNG", "JPEG"):
            return Picture(_address(encoded, image.format), *image.size)
        image.thumbnail((LONGEST, LONGEST))
        see_through = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        file = io.BytesIO()
        if max(image.size) <= TINY or see_through:
            image.convert("RGBA" if see_through else "RGB").save(file, "PNG")
            return Picture(_address(file.getvalue(), "PNG"), *image.size)
        image.convert("RGB").save(file, "JPEG", quality=82, optimize=True)
        return Picture(_address(file.getvalue(), "JPEG"), *image.size)


def _address(encoded: bytes, kind: str) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded).decode('ascii')}"
