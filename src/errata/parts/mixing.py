"""Mixing rows of a batch.

Shapes: B batch, C classes.
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

__all__ = ["Mixup", "draw_mixup", "mix_rows"]


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
        if not 0 <= self.alpha < math.inf:
            raise SettingsError(
                f"mixup alpha `{self.alpha}` is out of range; allowed: 0 (off) and above",
                hint="1.0 is the usual value",
            )

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Blend views and targets; weights travel with the targets."""
        if self.alpha == 0:
            return batch
        count = len(batch.rows)
        own, partners = draw_mixup(
            count, alpha=self.alpha, generator=run.stream("mixup"), per_row=self.per_row
        )
        weighted = batch.target * batch.weight[:, None]
        return replace(
            batch,
            views=tuple(mix_rows(view, own, partners) for view in batch.views),
            target=mix_rows(weighted, own, partners),
            weight=torch.ones_like(batch.weight),
            pure=False,
        )
