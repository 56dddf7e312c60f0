"""Losses of a net whose labels went wrong by a known transition matrix.

T[i, j] is the probability of the given label j where class i is true, so that rows sum to one,
and what a net with the softmax s expects of the given label is ``s T``. All of them are
cross-entropy where T is the identity.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from errata.losses.pointwise import ce

__all__ = [
    "LEAST",
    "backward_loss",
    "forward_loss",
    "reweighted_loss",
    "row_loss",
    "soft_loss",
]

LEAST = 1e-12
"""Takes the place of entries without mass where a logarithm needs some."""
_MOST_LOG_WEIGHT = math.log(1e3)


def forward_loss(logits: Float[Tensor, "B C"], T: Float[Tensor, "C C"]) -> Float[Tensor, "B C"]:
    """Forward correction, ``-ln (s T)_y`` [nats]: the net predicts, the matrix spoils.

    Exact for logits of any size, at the price of B * C * C numbers at once. A label that no class
    is ever given costs every row the same, and teaches nothing. Source: Patrini et al. 2017.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> forward_loss(torch.tensor([[0.9, 0.1]]).log(), T)
        tensor([[0.2744, 1.4271]])
    """
    return _forward_of_log(logits, _log_of(T))


def backward_loss(logits: Float[Tensor, "B C"], T: Float[Tensor, "C C"]) -> Float[Tensor, "B C"]:
    """Backward correction: ``T^-1`` applied to the cross-entropies of all labels [nats].

    Its mean over the given labels of a class is the cross-entropy of that class. It can be
    negative, and has no lower bound. Source: Patrini et al. 2017.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> backward_loss(torch.tensor([[0.9, 0.1]]).log(), T)
        tensor([[-0.9933,  4.4998]])
    """
    return soft_loss(logits, torch.linalg.inv(T))


def row_loss(logits: Float[Tensor, "B C"], T: Float[Tensor, "C C"]) -> Float[Tensor, "B C"]:
    """``-ln (T s)_y`` [nats]: row y of T where `forward_loss` takes column y.

    ``T s`` sums to one only where the columns of T do, so that this is no likelihood otherwise.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> row_loss(torch.tensor([[0.9, 0.1]]).log(), T).neg().exp()
        tensor([[0.7400, 0.4200]])
    """
    return _forward_of_log(logits, _log_of(T.T))


def soft_loss(logits: Float[Tensor, "B C"], T: Float[Tensor, "C C"]) -> Float[Tensor, "B C"]:
    """``-T[y] . ln s`` [nats]: cross-entropy with row y of T in place of the label y.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> soft_loss(torch.tensor([[0.9, 0.1]]).log(), T)
        tensor([[0.5448, 1.4237]])
    """
    plain = ce(logits)
    return plain @ T.T.to(plain)


def reweighted_loss(
    logits: Float[Tensor, "B C"], T: Float[Tensor, "C C"], *, detach: bool = True
) -> Float[Tensor, "B C"]:
    """Cross-entropy weighed by how much likelier a label is as true than as given.

    The weight is ``s_y / (s T)_y``, at most 1000. Source: Liu and Tao 2016; Xia et al. 2019.

    Args:
        logits: [B, C].
        T: Row-stochastic, or with a small slack.
        detach: Takes the weight as a constant.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> logits = torch.tensor([[0.9, 0.1]]).log()
        >>> reweighted_loss(logits, T) / -logits
        tensor([[1.1842, 0.4167]])
    """
    plain = ce(logits)
    weight = (forward_loss(logits, T) - plain).clamp_max(_MOST_LOG_WEIGHT).exp()
    return (weight.detach() if detach else weight) * plain


def _log_of(T: Tensor) -> Tensor:
    # Zeros become -inf, which is right, but for a column without any mass.
    return (T + LEAST * (T.sum(0, keepdim=True) <= 0)).log()


def _forward_of_log(logits: Tensor, log_T: Tensor) -> Tensor:
    log_s = ce(logits).neg()
    return -torch.logsumexp(log_s[:, :, None] + log_T.to(log_s)[None], 1)
