"""Samples of any layout and type into the few that models take.

Shapes: N rows, C channels, H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from errata.data.found import Fit
from errata.errors import SourceError

__all__ = ["check_pixels", "fit_pixels"]

# Rows looked at together where a whole-array temporary would double the memory.
_BLOCK = 4096


def fit_pixels(x: np.ndarray, fit: Fit, *, name: str) -> np.ndarray:
    """Bring pictures [N, C, H, W] to the size and number of channels asked for.

    The picture is scaled (bilinear, antialiased) until it covers the size, then cropped at the
    centre. Colour becomes grey by the weights of ITU-R 601 (.299, .587, .114); grey becomes colour
    by repetition.

    Raises:
        SourceError: The samples are vectors, so there is nothing to resize.
    """
    height, width = fit.size if fit.size is not None else x.shape[-2:]
    channels = fit.channels if fit.channels is not None else x.shape[1]
    if fit == Fit() or x.shape[1:] == (channels, height, width):
        return x
    if x.ndim != 4:
        raise SourceError(
            f"`{name}` holds vectors of width {x.shape[1]}, which cannot be resized to pictures",
            hint="leave out the size, or use a source of pictures",
        )
    out = np.empty((len(x), channels, height, width), dtype=x.dtype)
    for start in range(0, len(x), _BLOCK):
        block = torch.from_numpy(np.array(x[start : start + _BLOCK])).float()
        block = _recolour(block, channels)
        scale = max(height / block.shape[2], width / block.shape[3])
        covering = [
            max(height, round(block.shape[2] * scale)),
            max(width, round(block.shape[3] * scale)),
        ]
        if covering != list(block.shape[2:]):
            block = F.interpolate(
                block, size=covering, mode="bilinear", antialias=True, align_corners=False
            )
        top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
        block = block[:, :, top : top + height, left : left + width]
        if x.dtype == np.uint8:
            block = block.round().clamp(0, 255)
        out[start : start + _BLOCK] = block.numpy()
    return out


def _recolour(block: Tensor, channels: int) -> Tensor:
    if block.shape[1] == channels:
        return block
    if channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (block * weights).sum(1, keepdim=True)
    return block.expand(-1, channels, -1, -1)


def check_pixels(x: np.ndarray, *, ids: Sequence[str], where: str) -> np.ndarray:
    """Turn samples of any accepted layout and type into [N, C, H, W] or [N, D].

    Pictures are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels; where both ends look
    like channels, the last one is taken. Whole numbers of 0 to 255 become uint8, 16-bit pictures
    are divided by 257, booleans become 0 and 255. Float pictures stay float32: those within 0 to 1
    are multiplied by 255, so that every picture has one scale; all others are taken as they are.
    Vectors [N, D] become float32.

    Args:
        x: The samples.
        ids: Keys of the rows, to name a bad one.
        where: How to call the array in messages.

    Raises:
        SourceError: The shape or type fits none of these, or a value is NaN or infinite.
    """
    if x.dtype.kind not in "buif":
        raise SourceError(
            f"{where} has the type `{x.dtype}`; allowed: whole numbers, floats or booleans"
        )
    if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        raise SourceError(
            f"{where} has the shape `{x.shape}`; allowed: [N, H, W], [N, H, W, C], [N, C, H, W] "
            "or [N, D]"
        )
    if x.ndim == 2:
        return _finite(_as_float32(x), ids=ids, where=where)
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.shape[1] not in (1, 3):
        raise SourceError(
            f"{where} has the shape `{x.shape}`, where neither the last nor the second length is "
            "a number of "
            "channels; allowed: 1 or 3 channels"
        )
    return np.ascontiguousarray(_picture_values(x, ids=ids, where=where))


def _picture_values(x: np.ndarray, *, ids: Sequence[str], where: str) -> np.ndarray:
    if x.dtype.kind == "b":
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "f":
        x = _finite(_as_float32(x), ids=ids, where=where)
        return x * np.float32(255) if x.min() >= 0 and x.max() <= 1 else x
    low, high = int(x.min()), int(x.max())
    if low >= 0 and high <= 255:
        return x.astype(np.uint8)
    if x.dtype == np.uint16:
        return np.rint(x / np.float32(257)).astype(np.uint8)
    raise SourceError(
        f"{where} holds whole numbers from `{low}` to `{high}`; allowed: 0 to 255, or uint16 for "
        "16-bit pictures"
    )


def _as_float32(x: np.ndarray) -> np.ndarray:
    # A float64 beyond the range of float32 becomes infinite here and is reported as such.
    with np.errstate(over="ignore"):
        return x.astype(np.float32, copy=False)


def _finite(x: np.ndarray, *, ids: Sequence[str], where: str) -> np.ndarray:
    flat = x.reshape(len(x), -1)
    bad = [
        start + int(row)
        for start in range(0, len(x), _BLOCK)
        for row in np.flatnonzero(~np.isfinite(flat[start : start + _BLOCK]).all(axis=1))
    ]
    if bad:
        raise SourceError(
            f"{where} has NaN or infinite values in {len(bad)} of {len(x)} rows, first in the "
            "row with id "
            f"`{ids[bad[0]]}`; allowed: finite numbers",
            hint="replace these values or leave the rows out",
        )
    return x
