"""Prototypes by clustering: what the selection by density is compared with.

Shapes: n rows of one class, k centres, D feature width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["k_means", "nearest_rows"]


def k_means(
    features: Float[Tensor, "n D"],
    *,
    count: int,
    generator: torch.Generator,
    iterations: int = 100,
) -> Float[Tensor, "k D"]:
    """Find centres by k-means from a k-means++ start (Arthur and Vassilvitskii 2007).

    Args:
        features: Of one class.
        count: Centres; as many as rows where there are fewer rows.
        generator: CPU generator of the start.
        iterations: At most so many; it ends when no row changes its centre.
    """
    count = min(count, len(features))
    first = int(torch.randint(len(features), (1,), generator=generator))
    chosen = [first]
    nearest = (features - features[first]).square().sum(1)
    while len(chosen) < count:
        odds = nearest.double().cpu()
        # Where every row is a copy of a centre, any of them may be next.
        odds = odds if odds.sum() > 0 else torch.ones_like(odds)
        chosen.append(int(torch.multinomial(odds, 1, generator=generator)))
        nearest = nearest.minimum((features - features[chosen[-1]]).square().sum(1))
    return _settle(features, features[chosen], iterations)


def _settle(x: Tensor, centres: Tensor, iterations: int) -> Tensor:
    """Move centres to the means of their rows until no row changes; empty ones stay."""
    before = torch.full((len(x),), -1, device=x.device)
    for _ in range(iterations):
        owner = torch.cdist(x, centres).argmin(1)
        if torch.equal(owner, before):
            break
        before = owner
        # A product in place of a scattered sum, whose order is not fixed on every device.
        mine = one_hot(owner, len(centres)).to(x)
        sizes = mine.sum(0)[:, None]
        centres = torch.where(sizes > 0, mine.T @ x / sizes.clamp_min(1), centres)
    return centres


def nearest_rows(
    features: Float[Tensor, "n D"], centres: Float[Tensor, "k D"]
) -> Int[Tensor, " k"]:
    """Choose for each centre in turn the nearest row that no earlier centre has taken.

    Of rows that are equally near, to a millionth, the first is taken: the two rows of a cluster of
    two always are, and rounding should not decide between them.
    """
    distance = torch.cdist(features, centres)
    chosen = []
    for k in range(len(centres)):
        near = distance[:, k] <= distance[:, k].min() * (1 + 1e-6)
        chosen.append(near.nonzero()[0, 0])
        distance[chosen[-1]] = math.inf
    return torch.stack(chosen)
