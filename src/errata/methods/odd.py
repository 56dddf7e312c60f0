"""Drop, on the fly and for good, the samples whose loss looks like that of a wrong label.

**Idea.** While the learning rate is large, the loss of uniformly wrong labels hardly falls and
hardly depends on how many there are. ODD simulates that loss from the last layer alone: it feeds
rectified Gaussian noise to it and charges a random class. At one epoch `at` it drops every row
whose loss, averaged over its last `recent` epochs, lies above the `percentile`-th percentile of
the simulated losses. Training then goes on with the rest, which also takes less time.

**Use it** for long training on labels of unknown quality; it needs no noise rate. It composes:
``odd+mixup``, ``odd+gce``.

**Avoid it** where wrong labels are systematic (pairs of classes, human errors on look-alikes):
their loss is smaller than that of uniform ones, so few are dropped. With few epochs on much data
there is little to gain. A network without a linear head needs `odd-phantom`.

**Cost.** Below 1: one loss per row and epoch in `recent` epochs, one simulation, fewer rows after.

**Source.** Song, Dauphin, Auli, Ma 2020, "Robust and On-the-fly Data Denoising for Image
Classification" (slides of the talk).

**Ours.** `percentile = 20`: the talk draws a band of 2.5 to 10 for 100 classes; with 10 classes
the simulated losses spread wider than the real ones, so a low percentile drops too much
(`docs/decisions/0012`). `at = 40 %` is inside the talk's band of 29 to 50 %. Every class keeps
its cheapest rows (`floor_rows`, `floor_share`), at least 10 and 5 %. A row whose loss is below
ln 2 stays (`least_loss`): its label has more than half of the probability. This matters with two
or three classes, where many simulated labels are right by chance. Losses come from training mode,
as the talk's claim of almost no overhead requires. With mixup the losses are those of un-mixed
inputs.
"""

# Shapes: C classes, D feature width, n simulated draws.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from errata.methods.card import Card
from errata.parts.base import Recipe, register_part
from errata.parts.dropping import DropAboveNull, percentile_of
from errata.streams import generator
from errata.types import Run

__all__ = ["CARD", "ODD", "loss_variance_of_head", "odd_threshold", "simulate_losses"]


@torch.no_grad()
def simulate_losses(
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
    *,
    draws: int,
    generator: torch.Generator,
    chunk: int = 16_384,
) -> Float[Tensor, " n"]:
    """Simulate the cross-entropy [nats] of uniformly wrong labels through a linear head.

    Features are rectified standard normals, labels uniform over the classes:
    ``u = W max(z, 0) + b``, loss ``logsumexp(u) - u_k``. Source: slides of ODD (Song et al. 2020).

    Args:
        weight: [C, D] of the last layer.
        bias: [C], or None.
        draws: How many losses to simulate; 100,000 gives an error of about 0.01 nats.
        generator: CPU generator.
        chunk: Draws held in memory at a time.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> simulate_losses(torch.zeros(7, 3), None, draws=2, generator=rng)
        tensor([1.9459, 1.9459])
    """
    weight = weight.detach().float().cpu()
    offset = torch.zeros(len(weight)) if bias is None else bias.detach().float().cpu()
    losses = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        features = torch.randn(count, weight.shape[1], generator=generator).relu_()
        logits = torch.addmm(offset, features, weight.T)
        labels = torch.randint(len(weight), (count, 1), generator=generator)
        losses.append(logits.logsumexp(1) - logits.gather(1, labels)[:, 0])
    return torch.cat(losses)


def loss_variance_of_head(weight: Float[Tensor, "C D"]) -> float:
    """Give the variance `v` for which simulated losses are about Normal(ln C + v / 2, v).

    Holds for a centred head with many classes and features. Source: our derivation.
    """
    weight = weight.detach().double()
    rectified = 0.5 - 1 / (2 * math.pi)
    own = weight.square().sum(1).mean() * rectified
    between = weight.sum(1).var(correction=0) / (2 * math.pi)
    return float(own + between)


def odd_threshold(
    head: nn.Linear,
    *,
    percentile: float = 20.0,
    draws: int = 100_000,
    rng: torch.Generator | None = None,
) -> float:
    """Give the loss [nats] above which ODD takes a label for wrong, from the last layer alone.

    Args:
        head: The last linear layer; its inputs should be rectified features.
        percentile: 0 to 100, of the simulated losses.
        draws: Simulated losses.
        rng: CPU generator; None takes the one of seed 0.
    """
    rng = generator(0, "odd") if rng is None else rng
    simulated = simulate_losses(head.weight, head.bias, draws=draws, generator=rng)
    return percentile_of(simulated, percentile)


@register_part("odd")
@dataclass(kw_only=True)
class ODD(DropAboveNull):
    """Drop rows whose recent mean loss lies above a percentile of losses simulated by the head.

    Attributes:
        draws: Simulated losses.
    """

    draws: int = 100_000

    def setup(self, run: Run) -> None:
        """Add the columns, and fail early on a net without a linear head."""
        super().setup(run)
        run.head(0)

    def null_losses(self, run: Run) -> Tensor:
        """Simulate losses of uniform labels through the head."""
        head: nn.Linear = run.head(0)
        run.note("odd", variance=loss_variance_of_head(head.weight))
        return simulate_losses(
            head.weight, head.bias, draws=self.draws, generator=run.stream("odd")
        )


CARD = Card(
    name="odd",
    summary="drops rows whose loss looks like that of uniformly wrong labels, once",
    source="Song et al. 2020, Robust and On-the-fly Data Denoising (slides)",
    year=2020,
    cost=0.8,
    text=__doc__ or "",
    build=lambda: Recipe(parts=(ODD(),)),
)
