"""One image file into pixels; whatever is wrong with a file becomes one kind of error.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from errata.errors import ErrataError, SettingsError

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image as Picture

__all__ = [
    "Header",
    "UnreadableError",
    "decode_file",
    "image_suffixes",
    "load_pillow",
    "quiet_pillow",
    "read_header",
    "thumbnail",
]

# EPS starts an outside program; the others are only recognised by Pillow, not read.
_REFUSED = ("EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF")
_GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112
_MAX_SHOWN = 512

T = TypeVar("T")


class UnreadableError(ErrataError):
    """An image file that cannot be decoded; the message says why."""


class Header(NamedTuple):
    """What the first bytes of an image file tell."""

    width: int
    height: int
    is_grey: bool


def load_pillow() -> ModuleType:
    """Import Pillow's image module, with all its formats registered.

    Raises:
        SettingsError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise SettingsError(
            "reading or writing pictures needs Pillow, which is not installed",
            hint="run `pip install 'errata[images]'`",
        ) from None
    Image.init()
    return Image


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes in lower case, with their dot, of all formats that can be decoded."""
    pillow = load_pillow()
    formats = _formats()
    known = pillow.registered_extensions().items()
    # MPO, the format of some cameras, is read by the JPEG plugin and has no opener of its own.
    return frozenset(suffix.lower() for suffix, kind in known if kind in (*formats, "MPO"))


@cache
def _formats() -> tuple[str, ...]:
    common = ("JPEG", "PNG")
    others = (kind for kind in load_pillow().OPEN if kind not in (*common, *_REFUSED))
    return (*common, *others)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's remarks on odd files; whatever matters comes as an error.

    Python keeps its filters for the whole process, so this goes around a pool of threads, not
    inside.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_header(path: Path) -> Header:
    """Read size and kind of an image file without decoding it.

    Raises:
        UnreadableError: The file is missing, empty, of no known format, or too large.
    """

    def read(image: Picture) -> Header:
        return Header(*image.size, _is_grey(image))

    return _guarded(path, read)


def decode_file(path: Path, *, size: tuple[int, int], channels: int) -> np.ndarray:
    """Decode an image file into uint8 pixels [C, H, W].

    The first frame of an animation is taken, the EXIF orientation is honoured, and transparency is
    flattened on white. 16-bit grey values are divided by 257, unless none of them is above 255;
    32-bit whole numbers within the 16-bit range are treated alike. Other 32-bit numbers and floats
    are stretched from the smallest to the largest value of the picture. Then the largest centred
    part of the right proportions is scaled to the size (bilinear, antialiased).

    Args:
        path: The file.
        size: Height and width in pixels.
        channels: 1 (grey) or 3 (colour).

    Raises:
        UnreadableError: The file is missing, empty, truncated, damaged, too large, or of no known
            format.
    """

    def decode(image: Picture) -> np.ndarray:
        # JPEG can skip detail while decoding; twice the size asked for is left for the antialiased
        # resize.
        scale = 2 * max(size) / min(image.size)
        image.draft(None, (round(image.width * scale), round(image.height * scale)))
        pixels = np.asarray(_cover(_upright(image, channels), size))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    return _guarded(path, decode)


def thumbnail(path: Path) -> bytes:
    """Show an image file to a person: a PNG file, upright, longest side at most 512 pixels.

    Raises:
        UnreadableError: The file can no longer be decoded.
    """

    def draw(image: Picture) -> bytes:
        channels = 1 if _is_grey(image) else 3
        image.draft(None, (2 * _MAX_SHOWN, 2 * _MAX_SHOWN))
        upright = _upright(image, channels)
        upright.thumbnail((_MAX_SHOWN, _MAX_SHOWN))
        # A picture made from the pixels alone carries no metadata of the original along.
        bare = load_pillow().fromarray(np.asarray(upright))
        file = io.BytesIO()
        bare.save(file, format="PNG")
        return file.getvalue()

    with quiet_pillow():
        return _guarded(path, draw)


def _guarded(path: Path, work: Callable[[Picture], T]) -> T:
    pillow = load_pillow()
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("the file is empty (0 bytes)")
        with path.open("rb") as file, pillow.open(file, formats=_formats()) as image:
            return work(image)
    except UnreadableError:
        raise
    except pillow.DecompressionBombError:
        limit = 2 * pillow.MAX_IMAGE_PIXELS
        raise UnreadableError(f"the picture is too large: more than {limit} pixels") from None
    except pillow.UnidentifiedImageError:
        raise UnreadableError(
            "the file is no image of a known format, or its start is damaged"
        ) from None
    # Pillow's readers raise errors of every kind on damaged files; one bad file must not end a run.
    except Exception as error:
        why = getattr(error, "strerror", None) or f"truncated or damaged: {error}"
        raise UnreadableError(why) from error


def _is_grey(image: Picture) -> bool:
    if image.mode != "P":
        return image.mode in _GREY_MODES
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _upright(image: Picture, channels: int) -> Picture:
    """Convert to 8 bits, then turn as EXIF says."""
    from PIL.Image import Transpose

    image.load()
    try:
        # Asked for only now, because the TIFF reader turns its pictures itself and then drops the
        # tag.
        orientation = image.getexif().get(_ORIENTATION, 1)
    # Damaged EXIF data raise errors of every kind, and say nothing about the pixels.
    except Exception:
        orientation = 1
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    plain = _plain(image, channels)
    return plain.transpose(turns[orientation]) if orientation in turns else plain


def _plain(image: Picture, channels: int) -> Picture:
    pillow = load_pillow()
    if image.mode in _WIDE_MODES:
        image = pillow.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        ground = pillow.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    elif image.mode not in ("1", "L", "P", "RGB"):
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not np.isfinite(values).all():
        raise UnreadableError("the picture holds NaN or infinite values")
    low, high = values.min(), values.max()
    if values.dtype.kind != "f" and low >= 0 and high <= 65535:
        return np.asarray(values if high <= 255 else np.rint(values / 257), dtype=np.uint8)
    # Halves keep the difference of the two ends within float64.
    span = max(float(high) / 2 - float(low) / 2, 1e-300)
    shares = (values.astype(np.float64) / 2 - float(low) / 2) / span
    return np.rint(shares * 255).astype(np.uint8)


def _cover(image: Picture, size: tuple[int, int]) -> Picture:
    from PIL.Image import Resampling

    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    across, down = min(width / scale, image.width), min(height / scale, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    # The box may not reach over the edge by a rounding error.
    box = (left, top, min(left + across, image.width), min(top + down, image.height))
    return image.resize((width, height), Resampling.BILINEAR, box=box, reducing_gap=3.0)
