"""Losses whose target is not the given label alone: normalised, truncated, smoothed, bootstrapped.

Shapes: B batch, C classes. In formulas s is the softmax and p = s_y.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from errata.errors import unknown_name
from errata.losses.base import Loss, register_loss
from errata.losses.pointwise import Value, ce, gce, number_of
from errata.types import Batch

__all__ = [
    "NGCE",
    "BootstrapHard",
    "BootstrapSoft",
    "LabelSmoothing",
    "bootstrap_hard",
    "bootstrap_soft",
    "label_smoothing",
    "ngce",
    "truncated_gce",
]

_TARGETS = ("live", "detached")


def ngce(logits: Float[Tensor, "B C"], *, q: float = 0.7) -> Float[Tensor, "B C"]:
    """Normalised generalised cross-entropy, ``(1 - p^q) / (C - sum_k s_k^q)``.

    Symmetric: a row sums to 1. Source: Ma et al. 2020, arXiv:2006.13554.
    """
    matrix = gce(logits, q=q)
    return matrix / matrix.sum(1, keepdim=True)


def truncated_gce(
    logits: Float[Tensor, "B C"], *, q: float = 0.7, k: float = 0.5
) -> Float[Tensor, "B C"]:
    """Generalised cross-entropy that is constant, without a gradient, where p is k or less.

    Source: Zhang and Sabuncu 2018, arXiv:1805.07836. Training with it from the start learns
    nothing; see the recipe `truncated-gce` for their schedule.

    Args:
        logits: [B, C].
        q: Above 0, up to 1.
        k: Between 0 and 1.
    """
    assert 0 < k < 1, k
    matrix = gce(logits, q=q)
    return matrix.clamp_max((1 - k**q) / q)


def label_smoothing(
    logits: Float[Tensor, "B C"], *, smoothing: float = 0.1
) -> Float[Tensor, "B C"]:
    """Cross-entropy to a target that gives `smoothing` to all classes alike, the label included.

    Source: Szegedy et al. 2016, arXiv:1512.00567.
    """
    matrix = ce(logits)
    return matrix * (1 - smoothing) + matrix.mean(1, keepdim=True) * smoothing


def bootstrap_soft(
    logits: Float[Tensor, "B C"], *, beta: float = 0.95, detach: bool = False
) -> Float[Tensor, "B C"]:
    """Cross-entropy to ``beta y + (1 - beta) s``: the label, and what the net believes.

    Source: Reed et al. 2015, arXiv:1412.6596, whose gradient flows through s in the target.

    Args:
        logits: [B, C].
        beta: Share of the label, 0 to 1.
        detach: Holds s in the target constant.
    """
    matrix = ce(logits)
    belief = matrix.neg().exp()
    belief = belief.detach() if detach else belief
    # Where s is 0 its product with -ln s is, too; the sum over classes is the entropy of the row.
    entropy = (belief * matrix).sum(1, keepdim=True)
    return matrix * beta + entropy * (1 - beta)


def bootstrap_hard(logits: Float[Tensor, "B C"], *, beta: float = 0.8) -> Float[Tensor, "B C"]:
    """Cross-entropy to ``beta y + (1 - beta) z``, where z is the class that leads.

    Source: Reed et al. 2015, arXiv:1412.6596.
    """
    matrix = ce(logits)
    return matrix * beta + matrix.amin(1, keepdim=True) * (1 - beta)


@register_loss("ngce")
class NGCE(Loss):
    """Normalised generalised cross-entropy; see `ngce`."""

    def __init__(self, *, q: Value = 0.7) -> None:
        super().__init__()
        self.q = number_of("ngce", "q", q, "numbers above 0, up to 1", lambda x: 0 < x <= 1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return ngce(logits, q=self.q)


@register_loss("label-smoothing")
class LabelSmoothing(Loss):
    """Smoothed cross-entropy; see `label_smoothing`."""

    def __init__(self, *, smoothing: Value = 0.1) -> None:
        super().__init__()
        name, allowed = "label-smoothing", "numbers from 0 to below 1"
        self.smoothing = number_of(name, "smoothing", smoothing, allowed, lambda x: 0 <= x < 1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return label_smoothing(logits, smoothing=self.smoothing)


@register_loss("bootstrap-soft")
class BootstrapSoft(Loss):
    """Cross-entropy to label and belief; see `bootstrap_soft`.

    `target` is ``live``, where the gradient flows through the belief, or ``detached``.
    """

    def __init__(self, *, beta: Value = 0.95, target: Value = "live") -> None:
        super().__init__()
        self.beta = _share("bootstrap-soft", beta)
        if target not in _TARGETS:
            raise unknown_name("`target` of loss `bootstrap-soft` is", str(target), _TARGETS)
        self.detach = target == "detached"

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return bootstrap_soft(logits, beta=self.beta, detach=self.detach)


@register_loss("bootstrap-hard")
class BootstrapHard(Loss):
    """Cross-entropy to label and leading class; see `bootstrap_hard`."""

    def __init__(self, *, beta: Value = 0.8) -> None:
        super().__init__()
        self.beta = _share("bootstrap-hard", beta)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return bootstrap_hard(logits, beta=self.beta)


def _share(loss: str, beta: Value) -> float:
    return number_of(loss, "beta", beta, "numbers above 0, up to 1", lambda x: 0 < x <= 1)
