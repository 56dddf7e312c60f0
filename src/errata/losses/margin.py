"""Losses of the margin, which judge scores rather than probabilities.

Three take the margin ``m_y = f_y - max f_k`` over the other classes k, and unhinged the centred
score ``f_y - mean f``. The notes that errata grew from name ramp and unhinged only: these
definitions are our reading. Whoever sums a loss over all labels and gets a constant, calls it
symmetric, and it is then robust to uniform noise: unhinged is, for any number of classes; sigmoid
is for two; ramp and savage are bounded and no more.

Shapes: B batch, C classes. In formulas f are the scores of a row, which here are its logits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from errata.losses.base import Loss, register_loss
from errata.losses.pointwise import Value, in_full, number_of, pure_loss
from errata.types import Batch

__all__ = ["Unhinged", "bounded", "margins", "ramp", "savage", "sigmoid", "unhinged"]


def margins(scores: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Give each class's score less the best other one, from the two best scores of a row.

    Example:
        >>> margins(torch.tensor([[1.0, 0.0, -1.0]]))
        tensor([[ 1., -1., -2.]])
    """
    scores = in_full(scores)
    best = scores.topk(2, dim=1)
    is_best = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best.indices[:, :1], value=True)
    return scores - torch.where(is_best, best.values[:, 1:], best.values[:, :1])


def ramp(scores: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Give ``min(1, max(0, 1 - m))``: a hinge that no label can cost more than 1.

    Its gradient is 0 below a margin of 0, so that a label that is not in the lead has no pull.
    """
    return (1 - margins(scores)).clamp(0, 1)


def sigmoid(scores: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Give the logistic function of ``-m``, 0 to 1. Symmetric for two classes."""
    return margins(scores).neg().sigmoid()


def savage(scores: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Give ``1 / (1 + exp(2 m))^2``, 0 to 1, flat where a label is far off.

    Source: Masnadi-Shirazi and Vasconcelos 2008, as written in the code of Patrini et al. 2017.
    """
    return (margins(scores) * -2).sigmoid().square()


def unhinged(scores: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Give ``1 - (f_y - mean f)``. Symmetric: a row sums to C whatever the scores are.

    It has no lower end, so scores must be held back by other means, such as `bounded`. Source: van
    Rooyen, Menon, Williamson 2015, arXiv:1505.07634, for two classes.
    """
    return 1 - _centred(scores)


def bounded(scores: Float[Tensor, "B C"], *, radius: float) -> Float[Tensor, "B C"]:
    """Centre the scores of a row, and pull those outside a ball back to its surface."""
    centred = _centred(scores)
    # By the largest entry first, as squares of large scores overflow.
    largest = centred.detach().abs().amax(1, keepdim=True).clamp_min(1e-12)
    length = (centred / largest).square().sum(1, keepdim=True).sqrt() * largest
    return centred * (radius / length.clamp_min(radius))


pure_loss("ramp", ramp)
pure_loss("sigmoid", sigmoid)
pure_loss("savage", savage)


@register_loss("unhinged")
class Unhinged(Loss):
    """Unhinged loss of scores that are kept in a ball; see `unhinged` and `bounded`."""

    def __init__(self, *, radius: Value = 10.0) -> None:
        super().__init__()
        self.radius = number_of("unhinged", "radius", radius, "numbers above 0", lambda x: x > 0)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return unhinged(bounded(logits, radius=self.radius))


def _centred(scores: Tensor) -> Tensor:
    scores = in_full(scores)
    return scores - scores.mean(1, keepdim=True)
