"""Mixing rows of a batch.

Shapes: B batch, C classes, H and W height and width of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.parts.base import Part, register_part
from errata.types import Batch, Run

__all__ = ["Box", "CutMix", "Mixup", "draw_box", "draw_mixup", "mix_rows", "paste_rows"]

Box = tuple[slice, slice]
"""Rows and columns of a rectangle within a picture."""


def draw_mixup(
    count: int, *, alpha: float, generator: torch.Generator, per_row: bool = False
) -> tuple[Float[Tensor, " n"], Int[Tensor, " B"]]:
    """Draw mixup's blend and partners.

    Args:
        count: Rows B of the batch.
        alpha: Both parameters of the Beta distribution, above 0.
        generator: Source of randomness.
        per_row: One blend for each row rather than one for the batch.

    Returns:
        The share of a row's own content, [1] or [B] in 0 to 1, and the partner of each row [B].
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, size=count if per_row else 1)
    partners = torch.randperm(count, generator=generator)
    return torch.from_numpy(drawn), partners


def mix_rows(
    values: Float[Tensor, "B ..."], own: Float[Tensor, " n"], partners: Int[Tensor, " B"]
) -> Float[Tensor, "B ..."]:
    """Blend each row with its partner: ``own * x + (1 - own) * x[partners]``.

    Source: mixup (Zhang et al. 2018, arXiv:1710.09412).

    Example:
        >>> mix_rows(torch.eye(2), torch.tensor([0.3]), torch.tensor([1, 0]))
        tensor([[0.3000, 0.7000],
                [0.7000, 0.3000]])
    """
    share = own.to(values.device, values.dtype).reshape(-1, *([1] * (values.dim() - 1)))
    return torch.lerp(values[partners.to(values.device)], values, share)


def draw_box(
    height: int, width: int, *, own: float, generator: torch.Generator
) -> tuple[Box, float]:
    """Draw CutMix's rectangle: a share ``1 - own`` of the picture, cut off at its edges.

    Its sides are those of the picture times ``sqrt(1 - own)``; its centre is any pixel.

    Returns:
        The rectangle, and the share of the picture that it leaves alone.
    """
    spans = []
    for length in (height, width):
        side = int(length * math.sqrt(1 - own))
        start = int(torch.randint(length, (1,), generator=generator)) - side // 2
        spans.append(slice(max(0, start), min(length, start + side)))
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return (spans[0], spans[1]), 1 - area / (height * width)


def paste_rows(
    pictures: Float[Tensor, "B channels H W"], box: Box, partners: Int[Tensor, " B"]
) -> Float[Tensor, "B channels H W"]:
    """Put the rectangle of each row's partner in the place of its own.

    Source: CutMix (Yun et al. 2019, arXiv:1905.04899).

    Example:
        >>> pictures = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
        >>> paste_rows(pictures, (slice(0, 1), slice(1, 2)), torch.tensor([1, 0]))[:, 0, 0]
        tensor([[1., 4.],
                [3., 2.]])
    """
    inside = (..., *box)
    pasted = pictures.clone()
    pasted[inside] = pictures[inside][partners.to(pictures.device)]
    return pasted


def _check_alpha(kind: str, alpha: float) -> None:
    if not 0 <= alpha < math.inf:
        raise SettingsError(
            f"{kind} alpha `{alpha}` is out of range; allowed: 0 (off) and above",
            hint="1.0 is the usual value",
        )


def _mix_targets(batch: Batch, views: tuple[Tensor, ...], own: Tensor, partners: Tensor) -> Batch:
    """Give the batch new views and mixed targets; weights travel with the targets."""
    weighted = batch.target * batch.weight[:, None]
    return replace(
        batch,
        views=views,
        target=mix_rows(weighted, own, partners),
        weight=torch.ones_like(batch.weight),
        pure=False,
    )


@register_part("mixup")
@dataclass(kw_only=True)
class Mixup(Part):
    """Train on blends of two rows and of their targets.

    Attributes:
        alpha: Both parameters of the Beta distribution; 0 changes nothing.
        per_row: One blend for each row; the published code draws one for the batch.
    """

    alpha: float = 1.0
    per_row: bool = False

    def __post_init__(self) -> None:
        _check_alpha("mixup", self.alpha)

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Blend views and targets."""
        if self.alpha == 0:
            return batch
        count = len(batch.rows)
        own, partners = draw_mixup(
            count, alpha=self.alpha, generator=run.stream("mixup"), per_row=self.per_row
        )
        views = tuple(mix_rows(view, own, partners) for view in batch.views)
        return _mix_targets(batch, views, own, partners)


@register_part("cutmix")
@dataclass(kw_only=True)
class CutMix(Part):
    """Paste a rectangle of another row's picture, and blend the targets by its area.

    Attributes:
        alpha: Both parameters of the Beta distribution of the area; 0 changes nothing.
        probability: Share of the batches that are mixed, 0 to 1; the others stay as drawn.
    """

    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_alpha("cutmix", self.alpha)
        if not 0 <= self.probability <= 1:
            raise SettingsError(
                f"cutmix probability `{self.probability}` is out of range; allowed: 0 to 1",
                hint="0.5 is the default",
            )

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Paste the same rectangle into all views, from the same partners."""
        shape = batch.views[0].shape
        if len(shape) != 4:
            raise SettingsError(
                f"cutmix cuts pictures, and samples have the shape {tuple(shape[1:])}; allowed: "
                "(channels, height, width)",
                hint="take `mixup`, which blends rows of any shape",
            )
        rng = run.stream("cutmix")
        if self.alpha == 0 or float(torch.rand((), generator=rng)) >= self.probability:
            return batch
        share, partners = draw_mixup(shape[0], alpha=self.alpha, generator=rng)
        box, own = draw_box(shape[2], shape[3], own=float(share), generator=rng)
        views = tuple(paste_rows(view, box, partners) for view in batch.views)
        return _mix_targets(batch, views, torch.tensor([own], dtype=torch.float64), partners)
