"""What a noise layer lets through to the net: gradients and operators in closed form.

A note on NNAQC makes three claims about the matrix that stands between the error at the given
label and the logits t1 of the net: it is more diffuse than that of a linear layer; it wipes out
most of the gradient where prediction and label disagree; and it keeps the net from growing
overconfident where they agree. These functions put numbers to them (``nnaqc`` says which hold).

Shapes: B batch, C classes. In formulas s is the softmax of t1, J(s) = diag(s) - s s^T, T[i, j]
is the probability of label j where class i is true, and W[j, i] carries class i to label j.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.losses.pointwise import one_hot

__all__ = [
    "diffuseness",
    "linear_gradient",
    "linear_operator",
    "nonlinear_gradient",
    "nonlinear_operator",
    "peaked_logits",
    "softmax_jacobian",
    "weight_of_transition",
]


def softmax_jacobian(probabilities: Float[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
    """Give the derivative of a softmax by its logits, ``diag(s) - s s^T``.

    Example:
        >>> softmax_jacobian(torch.tensor([[0.75, 0.25]]))
        tensor([[[ 0.1875, -0.1875],
                 [-0.1875,  0.1875]]])
    """
    return probabilities.diag_embed() - probabilities[:, :, None] * probabilities[:, None, :]


def linear_operator(
    logits: Float[Tensor, "B C"], transition: Float[Tensor, "C C"]
) -> Float[Tensor, "B C C"]:
    """Give what carries an error in the label's distribution to the logits, ``J(s) T``.

    Entry [b, i, j] carries it from label j to class i. Source: Jindal et al. 2019, their linear
    layer.
    """
    return softmax_jacobian(logits.softmax(1)) @ transition


def nonlinear_operator(
    logits: Float[Tensor, "B C"], weight: Float[Tensor, "C C"]
) -> Float[Tensor, "B C C"]:
    """The same behind a second softmax, ``J(s) W^T J(softmax(W s))``."""
    predicted = logits.softmax(1)
    behind = (predicted @ weight.T).softmax(1)
    return softmax_jacobian(predicted) @ weight.T @ softmax_jacobian(behind)


def linear_gradient(
    logits: Float[Tensor, "B C"], given: Int[Tensor, " B"], transition: Float[Tensor, "C C"]
) -> Float[Tensor, "B C"]:
    """Give the gradient of `linear_layer` by the logits, ``s - r``.

    ``r_i = s_i T_iy / (s T)_y`` is how likely class i is true where label y was given.

    Args:
        logits: t1.
        given: Class numbers y.
        transition: T, with a positive column y.
    """
    predicted = logits.softmax(1)
    joint = predicted * transition.T[given]
    return predicted - joint / joint.sum(1, keepdim=True)


def nonlinear_gradient(
    logits: Float[Tensor, "B C"], given: Int[Tensor, " B"], weight: Float[Tensor, "C C"]
) -> Float[Tensor, "B C"]:
    """Give the gradient of `nonlinear_layer` by the logits, ``J(s) W^T (softmax(W s) - e_y)``."""
    predicted = logits.softmax(1)
    error = (predicted @ weight.T).softmax(1) - one_hot(given, logits.shape[1]).to(logits)
    back = error @ weight
    return predicted * (back - (predicted * back).sum(1, keepdim=True))


def diffuseness(operator: Float[Tensor, "B C C"]) -> Float[Tensor, " B"]:
    """Give the share of the entries of an operator that carry it, 1 / C^2 to 1.

    ``(sum |d|)^2 / (C^2 sum d^2)``: one where all entries are of one size. Ours: the paper shows
    pictures.

    Example:
        >>> diffuseness(torch.stack([torch.eye(2), torch.ones(2, 2)]))
        tensor([0.5000, 1.0000])
    """
    sizes = operator.abs().flatten(1)
    squares = sizes.square().sum(1).clamp_min(torch.finfo(sizes.dtype).tiny)
    return sizes.sum(1).square() / squares / sizes.shape[1]


def peaked_logits(confidence: Float[Tensor, " B"], classes: int) -> Float[Tensor, "B C"]:
    """Give logits whose softmax is `confidence` for class 0, and even for the others.

    Example:
        >>> peaked_logits(torch.tensor([0.8]), 3).softmax(1)
        tensor([[0.8000, 0.1000, 0.1000]])
    """
    rest = ((1 - confidence) / (classes - 1)).log()[:, None].expand(-1, classes - 1)
    return torch.cat([confidence.log()[:, None], rest], 1)


def weight_of_transition(transition: Float[Tensor, "C C"]) -> Float[Tensor, "C C"]:
    """Give the W that makes of certain predictions what T makes of them, ``ln T^T``.

    Args:
        transition: T, with positive entries.

    Example:
        >>> t = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> weight_of_transition(t).T.softmax(1)
        tensor([[0.8000, 0.2000],
                [0.4000, 0.6000]])
    """
    return transition.T.log()
