"""Second labels that are never trained on: what they cost shows what a wrong label costs.

Shapes: N rows.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["draw_phantoms"]


def draw_phantoms(
    given: Int[Tensor, " N"], classes: int, rng: torch.Generator
) -> Int[Tensor, " N"]:
    """Draw a second label for every row, uniform over the classes other than the given one.

    It is never trained on, so what training makes of it shows what a wrong label looks like.
    An unlabelled row gets any class.
    """
    shift = torch.randint(1, classes, given.shape, generator=rng).to(given.device)
    return (given.clamp_min(0) + shift) % classes
