"""Losses that judge each row alone: likelihood, distance, and the robust ones between them.

Every function maps logits [B, C] to the matrix [B, C] of what each class would cost; every class
is its adapter with checked settings. All go through `log_softmax`, so they stay finite, in value
and gradient, where a softmax would round to 0 or 1. Half precision is computed in float32.

Shapes: B batch, C classes. In formulas s is the softmax and p = s_y.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.losses.base import Loss, register_loss
from errata.types import Batch

__all__ = [
    "GCE",
    "LOG_ZERO",
    "NCEMAE",
    "NCERCE",
    "SCE",
    "brier",
    "ce",
    "gce",
    "in_full",
    "mae",
    "nce",
    "nce_mae",
    "nce_rce",
    "number_of",
    "one_hot",
    "pure_loss",
    "rce",
    "sce",
]

Value = float | int | str | bool
"""What a settings file may hold; the losses take numbers only."""

LOG_ZERO = math.log(1e-4)
"""What reverse cross-entropy puts in place of ln 0; the authors' code clamps labels at 1e-4."""


def one_hot(labels: Int[Tensor, " B"], classes: int) -> Float[Tensor, "B C"]:
    """Turn class numbers into targets; a row without label (negative) gets no mass at all.

    Example:
        >>> one_hot(torch.tensor([1, -1]), 3)
        tensor([[0., 1., 0.],
                [0., 0., 0.]])
    """
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def ce(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Cross-entropy, ``-ln p`` [nats]."""
    return _log_softmax(logits).neg()


def mae(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Mean absolute error as its paper has it, the L1 distance ``2 (1 - p)``.

    Symmetric: a row sums to ``2 (C - 1)`` whatever the logits are. Source: Ghosh et al. 2017,
    arXiv:1712.09482. The code of Ma et al. 2020 uses half of it.

    Example:
        >>> mae(torch.tensor([[1.0, 0.0, -1.0]])).sum()
        tensor(4.)
    """
    return torch.expm1(_log_softmax(logits)) * -2.0


def brier(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Squared distance of the softmax from the label, ``1 - 2 p + sum_k s_k^2``."""
    log_p = _log_softmax(logits)
    squares = (2 * log_p).exp()
    # The same as 1 - 2 p + sum_k s_k^2, but rounding cannot make it negative.
    return torch.expm1(log_p).square() + (squares.sum(1, keepdim=True) - squares)


def gce(logits: Float[Tensor, "B C"], *, q: float = 0.7) -> Float[Tensor, "B C"]:
    """Generalised cross-entropy, ``(1 - p^q) / q``.

    `q` lies above 0, where this becomes cross-entropy, and up to 1, where it is ``1 - p``, half
    of `mae`. Source: Zhang and Sabuncu 2018, arXiv:1805.07836, with their `q`.
    """
    assert 0 < q <= 1, q
    return torch.expm1(_log_softmax(logits) * q) * (-1.0 / q)


def rce(logits: Float[Tensor, "B C"], *, log_zero: float = LOG_ZERO) -> Float[Tensor, "B C"]:
    """Reverse cross-entropy, ``-log_zero (1 - p)``: the prediction is coded by the label.

    `log_zero` stands for ln 0 and lies below 0. Source: Wang et al. 2019, arXiv:1908.06112.
    """
    assert log_zero < 0, log_zero
    return torch.expm1(_log_softmax(logits)) * log_zero


def nce(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Cross-entropy as a share of what all classes would cost, ``ln p / sum_k ln s_k``.

    Symmetric: a row sums to 1. Source: Ma et al. 2020, arXiv:2006.13554.
    """
    # The sum is at most -C ln C, so that nothing is divided by 0 with two classes or more.
    log_p = _log_softmax(logits)
    return log_p / log_p.sum(1, keepdim=True)


def sce(
    logits: Float[Tensor, "B C"],
    *,
    alpha: float = 0.1,
    beta: float = 1.0,
    log_zero: float = LOG_ZERO,
) -> Float[Tensor, "B C"]:
    """Symmetric cross-entropy, ``alpha ce + beta rce``.

    Source: Wang et al. 2019, arXiv:1908.06112. Defaults are theirs for CIFAR-10; for CIFAR-100
    they use 6 and 0.1, for MNIST 0.01 and 1.
    """
    log_p = _log_softmax(logits)
    return log_p * -alpha + torch.expm1(log_p) * (beta * log_zero)


def nce_rce(
    logits: Float[Tensor, "B C"],
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    log_zero: float = LOG_ZERO,
) -> Float[Tensor, "B C"]:
    """Active-passive loss ``alpha nce + beta rce``.

    Source: Ma et al. 2020, arXiv:2006.13554. Defaults are theirs for CIFAR-10; for CIFAR-100 they
    use 10 and 0.1, for mini-WebVision 50 and 0.1.
    """
    log_p = _log_softmax(logits)
    active = log_p / log_p.sum(1, keepdim=True)
    return active * alpha + torch.expm1(log_p) * (beta * log_zero)


def nce_mae(
    logits: Float[Tensor, "B C"], *, alpha: float = 1.0, beta: float = 1.0
) -> Float[Tensor, "B C"]:
    """Active-passive loss ``alpha nce + beta (1 - p)``: its absolute error is half of `mae`.

    Source: Ma et al. 2020, arXiv:2006.13554, as in their code; 1 and 1 for CIFAR-10, 10 and 1 for
    CIFAR-100.
    """
    log_p = _log_softmax(logits)
    active = log_p / log_p.sum(1, keepdim=True)
    return active * alpha - torch.expm1(log_p) * beta


def pure_loss(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Register a loss that has no settings."""

    @register_loss(name)
    class Pure(Loss):
        def forward(
            self,
            logits: Float[Tensor, "B C"],
            batch: Batch | None = None,
            features: Float[Tensor, "B D"] | None = None,
        ) -> Float[Tensor, "B C"]:
            return function(logits)

    Pure.__doc__ = function.__doc__
    Pure.__name__ = Pure.__qualname__ = f"Pure[{name}]"


pure_loss("ce", ce)
pure_loss("mae", mae)
pure_loss("mse", brier)


@register_loss("gce")
class GCE(Loss):
    """Generalised cross-entropy; see `gce`."""

    def __init__(self, *, q: Value = 0.7) -> None:
        super().__init__()
        self.q = number_of("gce", "q", q, "numbers above 0, up to 1", lambda x: 0 < x <= 1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return gce(logits, q=self.q)


@register_loss("sce")
class SCE(Loss):
    """Symmetric cross-entropy; see `sce`."""

    def __init__(
        self, *, alpha: Value = 0.1, beta: Value = 1.0, log_zero: Value = LOG_ZERO
    ) -> None:
        super().__init__()
        self.alpha, self.beta = _shares("sce", alpha, beta)
        self.log_zero = _below_zero("sce", log_zero)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return sce(logits, alpha=self.alpha, beta=self.beta, log_zero=self.log_zero)


@register_loss("nce-rce")
class NCERCE(Loss):
    """Active-passive loss of normalised and reverse cross-entropy; see `nce_rce`."""

    def __init__(
        self, *, alpha: Value = 1.0, beta: Value = 1.0, log_zero: Value = LOG_ZERO
    ) -> None:
        super().__init__()
        self.alpha, self.beta = _shares("nce-rce", alpha, beta)
        self.log_zero = _below_zero("nce-rce", log_zero)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return nce_rce(logits, alpha=self.alpha, beta=self.beta, log_zero=self.log_zero)


@register_loss("nce-mae")
class NCEMAE(Loss):
    """Active-passive loss of normalised cross-entropy and absolute error; see `nce_mae`."""

    def __init__(self, *, alpha: Value = 1.0, beta: Value = 1.0) -> None:
        super().__init__()
        self.alpha, self.beta = _shares("nce-mae", alpha, beta)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return nce_mae(logits, alpha=self.alpha, beta=self.beta)


def in_full(logits: Tensor) -> Tensor:
    """Give logits of half precision in single precision, and others as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(in_full(logits), 1)


def number_of(
    loss: str, name: str, value: Value, allowed: str, fits: Callable[[float], bool]
) -> float:
    """Read a number that a setting of a loss was given.

    Raises:
        SettingsError: It is no finite number, or does not fit; `allowed` says which ones do.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and fits(number):
            return number
    raise SettingsError(
        f"`{name}` of loss `{loss}` is `{value}`; allowed: {allowed}",
        hint=f"leave `{name}` out for the default",
    )


def _shares(loss: str, alpha: Value, beta: Value) -> tuple[float, float]:
    first = number_of(loss, "alpha", alpha, "numbers from 0", lambda x: x >= 0)
    if first:
        return first, number_of(loss, "beta", beta, "numbers from 0", lambda x: x >= 0)
    allowed = "numbers above 0 while `alpha` is 0"
    return first, number_of(loss, "beta", beta, allowed, lambda x: x > 0)


def _below_zero(loss: str, value: Value) -> float:
    return number_of(loss, "log_zero", value, "numbers below 0", lambda x: x < 0)
