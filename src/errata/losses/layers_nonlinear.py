"""Layers between prediction and given label that end in a second softmax.

Shapes: B batch, C classes. In formulas s is the softmax of the logits t1, W[j, i] carries class i
to label j, ``t2 = W s``, and the distribution of the given label is softmax(t2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.losses.base import register_loss
from errata.losses.layers import NoiseLayer, number_setting
from errata.losses.pointwise import ce, in_full
from errata.types import Batch, Run

__all__ = [
    "NNAQC",
    "Jindal",
    "keep_by_id",
    "keys_of_ids",
    "layer_ceiling",
    "nnaqc",
    "nonlinear_layer",
    "nonlinear_layers",
    "quasi_clustering",
    "scale_for_ceiling",
]

_HIGHEST = 0.99


def layer_ceiling(scale: float, classes: int) -> float:
    """Give the highest probability that softmax(W s) reaches with ``W = scale I``.

    A prediction sums to one, so ``e^scale / (e^scale + C - 1)`` is the most, whatever the net
    says. Source: our derivation.

    Example:
        >>> round(layer_ceiling(1.0, 10), 3)
        0.232
    """
    return 1 / (1 + (classes - 1) * math.exp(-scale))


def scale_for_ceiling(ceiling: float, classes: int) -> float:
    """Give the scale of ``W = scale I`` that reaches a probability, ``ln(p (C - 1) / (1 - p))``.

    Args:
        ceiling: Above 0 and below 1.
        classes: C.

    Example:
        >>> round(scale_for_ceiling(0.9, 10), 2)
        4.39
    """
    return math.log(ceiling * max(1, classes - 1) / (1 - ceiling))


def nonlinear_layer(
    logits: Float[Tensor, "B C"], weight: Float[Tensor, "C C"]
) -> Float[Tensor, "B C"]:
    """Cross-entropy of the given label behind a layer and a softmax [nats].

    ``-ln softmax(W s)_y``. Source: the noise-aware term of NNAQC (Jindal et al. 2019).

    Args:
        logits: [B, C].
        weight: W, with W[j, i] from class i to label j; no row needs to sum to one.

    Example:
        >>> nonlinear_layer(torch.randn(1, 4), torch.zeros(4, 4))  # ln 4
        tensor([[1.3863, 1.3863, 1.3863, 1.3863]])
    """
    predicted = ce(logits).neg().exp()
    return ce(predicted @ weight.T)


def nonlinear_layers(
    logits: Float[Tensor, "B C"], weights: Float[Tensor, "B C C"]
) -> Float[Tensor, "B C"]:
    """The same with a matrix for each row, ``-ln softmax(W(x) s)_y`` [nats]."""
    predicted = ce(logits).neg().exp()
    return ce(torch.einsum("bji,bi->bj", weights, predicted))


def quasi_clustering(logits: Float[Tensor, "B C"], *, beta: float = 0.05) -> Float[Tensor, "B C"]:
    """Cross-entropy against a blend of label and prediction [nats].

    ``-(1 - beta) ln s_y - beta sum_k s_k ln s_k``: soft bootstrapping, with `beta` for the
    prediction and the gradient through it. Source: the second term of NNAQC.

    Args:
        logits: [B, C].
        beta: Share of the prediction: 0 is cross-entropy, 1 the entropy of the prediction.
    """
    loss = ce(logits)
    entropy = (loss.neg().exp() * loss).sum(1, keepdim=True)
    return (1 - beta) * loss + beta * entropy


def nnaqc(
    logits: Float[Tensor, "B C"],
    weight: Float[Tensor, "C C"],
    *,
    alpha: float = 0.5,
    beta: float = 0.05,
) -> Float[Tensor, "B C"]:
    """Blend the loss behind a non-linear layer with quasi-clustering [nats].

    ``alpha nonlinear_layer + (1 - alpha) quasi_clustering``. Source: Jindal et al. 2019; the
    paper's alpha and beta could not be verified, so the defaults are ours.

    Args:
        logits: [B, C].
        weight: W, with W[j, i] from class i to label j.
        alpha: Share of the layer, 0 to 1.
        beta: Share of the prediction in the target of the rest, 0 to 1.
    """
    return torch.lerp(quasi_clustering(logits, beta=beta), nonlinear_layer(logits, weight), alpha)


def keys_of_ids(ids: Sequence[str]) -> Int[Tensor, " N"]:
    """Give each sample a number that depends on its id alone."""
    digests = (hashlib.blake2b(each.encode(), digest_size=8).digest() for each in ids)
    return torch.tensor([int.from_bytes(d, "big", signed=True) for d in digests])


def keep_by_id(
    keys: Int[Tensor, " B"], *, share: float, classes: int, key: int
) -> Float[Tensor, "B C"]:
    """Draw a dropout mask that follows the samples, whatever their order: 0 or ``1 / share``.

    Args:
        keys: [B] from `keys_of_ids`.
        share: Of the entries that stay, above 0.
        classes: C.
        key: Of this draw, a number below 2^62.
    """
    units = torch.arange(classes, device=keys.device) * -7046029254386353131
    mixed = keys[:, None] ^ (units + key)
    # The finalizer of splitmix64; products of int64 wrap, and masks undo the sign of a shift.
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * factor
    mixed = mixed ^ ((mixed >> 31) & ((1 << 33) - 1))
    uniform = ((mixed >> 11) & ((1 << 53) - 1)).double() / (1 << 53)
    return (uniform < share).float() / share


@register_loss("jindal")
class Jindal(NoiseLayer):
    """A linear layer without constraint, dropout on its output and a second softmax.

    The part `jindal` turns the dropout on. `scale` is that of the identity it starts at.
    """

    dropout: float = 0.0
    weight: nn.Parameter | None

    def __init__(self, *, scale: float | int | str | bool = 1.0) -> None:
        super().__init__()
        self.scale = number_setting(
            "jindal", "scale", scale, allowed="numbers above 0", fits=lambda value: value > 0
        )
        self.register_parameter("weight", None)

    def setup(self, run: Run, net: int) -> None:
        """Start at the identity."""
        self.weight = nn.Parameter(self.scale * torch.eye(run.classes))
        self.run_, self.net_ = run, net
        self.keys_ = keys_of_ids(run.ledger.ids).to(run.device)

    def transition(self) -> Float[Tensor, "C C"]:
        """Give what the layer makes of certain predictions."""
        assert self.weight is not None, "a layer is set up before it is read"
        return self.weight.detach().T.softmax(1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        if self.weight is None:
            return nonlinear_layer(logits, self.scale * torch.eye(logits.shape[1]).to(logits))
        carried = ce(logits).neg().exp() @ self.weight.T
        if self.dropout > 0 and batch is not None:
            carried = carried * self._mask(batch).to(carried)
        return ce(carried)

    def _mask(self, batch: Batch) -> Tensor:
        """Draw what stays; trusted samples have no keys of their own and borrow some."""
        drawn = torch.randint(2**62, (1,), generator=self.run_.stream(f"jindal{self.net_}"))
        keys = self.keys_[batch.rows % len(self.keys_)]
        classes = self.run_.classes
        return keep_by_id(keys, share=1 - self.dropout, classes=classes, key=int(drawn))


@register_loss("nnaqc")
class NNAQC(NoiseLayer):
    """The non-linear layer beside quasi-clustering; see `nnaqc`.

    `ceiling` is the highest probability of a label that the layer starts with, 0 to 1; the
    plain identity is the ceiling ``e / (e + C - 1)``. The part `nnaqc` decays what it learns.
    """

    name: str = "nnaqc"
    weight: nn.Parameter | None

    def __init__(
        self,
        *,
        alpha: float | int | str | bool = 0.5,
        beta: float | int | str | bool = 0.05,
        ceiling: float | int | str | bool = _HIGHEST,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.ceiling = nnaqc_settings(self.name, alpha, beta, ceiling)
        self.register_parameter("weight", None)

    def setup(self, run: Run, net: int) -> None:
        """Start at a multiple of the identity."""
        self.weight = nn.Parameter(self.start(run.classes))

    def start(self, classes: int) -> Float[Tensor, "C C"]:
        """Give the matrix that the layer starts at."""
        return scaled_identity(self.name, self.ceiling, classes)

    def transition(self) -> Float[Tensor, "C C"]:
        """Give what the layer makes of certain predictions."""
        assert self.weight is not None, "a layer is set up before it is read"
        return self.weight.detach().T.softmax(1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        weight = self.start(logits.shape[1]).to(logits) if self.weight is None else self.weight
        return nnaqc(logits, weight, alpha=self.alpha, beta=self.beta)


def nnaqc_settings(
    loss: str,
    alpha: float | int | str | bool,
    beta: float | int | str | bool,
    ceiling: float | int | str | bool,
) -> tuple[float, float, float]:
    """Check what NNAQC and its relatives are told."""

    def share(value: float) -> bool:
        return 0 <= value <= 1

    def within(value: float) -> bool:
        return 0 < value < 1

    return (
        number_setting(loss, "alpha", alpha, allowed="0 to 1", fits=share),
        number_setting(loss, "beta", beta, allowed="0 to 1", fits=share),
        number_setting(loss, "ceiling", ceiling, allowed="above 0, below 1", fits=within),
    )


def scaled_identity(loss: str, ceiling: float, classes: int) -> Float[Tensor, "C C"]:
    """Give the multiple of the identity whose `layer_ceiling` is this one.

    Raises:
        SettingsError: The ceiling is not above chance.
    """
    if ceiling <= 1 / classes:
        raise SettingsError(
            f"`ceiling` of loss `{loss}` is `{ceiling}` with {classes} classes; allowed: above "
            f"{1 / classes:g}, which is chance",
            hint="leave `ceiling` out for the default",
        )
    return scale_for_ceiling(ceiling, classes) * torch.eye(classes)
