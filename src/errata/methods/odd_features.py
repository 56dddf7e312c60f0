"""What ODD feeds to the head in place of pictures, and whether the head is one it can simulate.

Three models of features. ``gaussian`` is the talk's: rectified standard normals, which suit a
body that ends in a ReLU. ``identity`` leaves the ReLU out, for features that a LayerNorm without
a learned scale has just normalised. ``permuted`` draws each feature dimension by itself from what
that dimension does on the training rows: the marginals stay, and what tells the classes apart,
which is how dimensions go together, is lost. It suits any body.

Source: the talk of ODD (Song et al. 2020) for ``gaussian``; the other two are ours.

Shapes: B batch, N rows, C classes, D feature width, n simulated draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "FEATURE_MODELS",
    "DrawFeatures",
    "head_logits",
    "logit_scale",
    "permuted_columns",
    "plain_normals",
    "rectified_normals",
    "simulate_through",
]

FEATURE_MODELS = ("gaussian", "permuted", "identity")

DrawFeatures = Callable[[int, torch.Generator], Tensor]
"""Draws so many feature vectors [n, D]."""

_TOLERANCE = 0.05
_BLOCK = 1024


def rectified_normals(width: int) -> DrawFeatures:
    """Draw ``max(z, 0)`` of standard normals: features of a body that ends in a ReLU."""
    return lambda count, rng: torch.randn(count, width, generator=rng).relu_()


def plain_normals(width: int) -> DrawFeatures:
    """Draw standard normals: features of a body that ends in a normalisation."""
    return lambda count, rng: torch.randn(count, width, generator=rng)


def permuted_columns(features: Float[Tensor, "N D"]) -> DrawFeatures:
    """Draw each dimension by itself from its values on N rows, with replacement.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> draw = permuted_columns(torch.tensor([[0.0, 5.0], [1.0, 5.0]]))
        >>> drawn = draw(1000, rng)
        >>> drawn[:, 0].unique(), drawn[:, 1].unique()
        (tensor([0., 1.]), tensor([5.]))
    """
    values = features.detach().float().cpu()
    rows, width = values.shape

    def draw(count: int, rng: torch.Generator) -> Tensor:
        # In blocks, since the places drawn take twice the memory of the features themselves.
        sizes = [min(_BLOCK, count - start) for start in range(0, count, _BLOCK)]
        places = (torch.randint(rows, (size, width), generator=rng) for size in sizes)
        return torch.cat([values.gather(0, place) for place in places])

    return draw


@torch.no_grad()
def simulate_through(
    compute_logits: Callable[[Tensor], Tensor],
    draw_features: DrawFeatures,
    *,
    draws: int,
    generator: torch.Generator,
    chunk: int = 16_384,
) -> Float[Tensor, " n"]:
    """Simulate the cross-entropy [nats] of labels that are uniform over the classes.

    Args:
        compute_logits: Turns features [n, D] into logits [n, C].
        draw_features: Gives them, at random.
        draws: How many losses to simulate.
        generator: CPU generator.
        chunk: Draws held in memory at a time.
    """
    losses = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        logits = compute_logits(draw_features(count, generator))
        labels = torch.randint(logits.shape[1], (count, 1), generator=generator)
        losses.append(logits.logsumexp(1) - logits.gather(1, labels)[:, 0])
    return torch.cat(losses)


def head_logits(head: nn.Linear) -> Callable[[Float[Tensor, "B D"]], Float[Tensor, "B C"]]:
    """Give what a head computes, in single precision on the CPU.

    A weight norm changes the weight and is taken in by reading it. A subclass with a `forward` of
    its own, such as a cosine head, is called as it is.
    """
    if type(head).forward is nn.Linear.forward:
        weight = head.weight.detach().float().cpu()
        bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().float().cpu()
        return lambda features: torch.addmm(bias, features, weight.T)

    def compute(features: Tensor) -> Tensor:
        logits: Tensor = head.forward(features.to(head.weight))
        return logits.detach().float().cpu()

    return compute


def logit_scale(own: Tensor, logits: Float[Tensor, "B C"]) -> float:
    """Find the factor between what the head gives and what the net makes of it, a temperature.

    Constants per row do not matter, so a net that ends in a log-softmax passes.

    Args:
        own: What the head gives for the features of some rows.
        logits: [B, C] what the net gives for the same rows.

    Returns:
        1.0 where they agree within 5 % of their size, which leaves room for half precision; NaN
        where no factor fits, so that the head is not what the net ends in.

    Example:
        >>> own = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> logit_scale(own, own), logit_scale(own, 4 * own + 7), logit_scale(own, own.square())
        (1.0, 4.0, nan)
    """
    if own.shape != logits.shape:
        return math.nan
    u, z = (values.detach().double().cpu() for values in (own, logits))
    u, z = u - u.mean(1, keepdim=True), z - z.mean(1, keepdim=True)
    size = float(z.norm())
    if float((z - u).norm()) <= _TOLERANCE * size + 1e-6:
        return 1.0
    scale = float((u * z).sum() / u.square().sum().clamp_min(1e-12))
    fits = scale > 0 and float((z - scale * u).norm()) <= _TOLERANCE * size
    return scale if fits else math.nan
