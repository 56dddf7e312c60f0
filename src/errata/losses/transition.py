"""Losses that hold a transition matrix, which tells how labels go wrong: given or learned.

T[i, j] is the probability of the given label j where class i is true, so that rows sum to one,
and what a net with the softmax s expects of the given label is ``s T``. All of them are
cross-entropy where T is the identity, which it is until `TransitionLoss.hold` is told another.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.losses.base import Loss, register_loss
from errata.losses.correction import (
    LEAST,
    backward_loss,
    forward_loss,
    reweighted_loss,
    row_loss,
    soft_loss,
)
from errata.losses.layers import NoiseLayer, near_identity
from errata.losses.pointwise import ce
from errata.transition import check_transition
from errata.types import Batch, Run

__all__ = [
    "Backward",
    "Forward",
    "ForwardLearned",
    "LearnedTransition",
    "Revision",
    "Reweighted",
    "Row",
    "Soft",
    "TransitionLoss",
    "VolMin",
    "dominant_rows",
    "log_volume",
]


def dominant_rows(scores: Float[Tensor, "C C"]) -> Float[Tensor, "C C"]:
    """Give rows with the largest entry on the diagonal: 1 there, sigmoids elsewhere, over the sum.

    The diagonal of `scores` does not count. Source: the code of Li et al. 2021 (VolMinNet).

    Example:
        >>> dominant_rows(torch.zeros(3, 3))
        tensor([[0.5000, 0.2500, 0.2500],
                [0.2500, 0.5000, 0.2500],
                [0.2500, 0.2500, 0.5000]])
    """
    eye = torch.eye(len(scores)).to(scores)
    rows = eye + scores.sigmoid() * (1 - eye)
    return rows / rows.sum(1, keepdim=True)


def log_volume(T: Float[Tensor, "C C"]) -> Float[Tensor, ""]:
    """Give ``ln |det T|``, which is 0 for the identity and falls as rows come closer.

    Example:
        >>> log_volume(torch.tensor([[0.8, 0.2], [0.3, 0.7]])).exp()
        tensor(0.5000)
    """
    volume: Tensor = torch.linalg.slogdet(T).logabsdet
    return volume


class TransitionLoss(Loss):
    """A loss with a matrix that somebody tells it: a stage before, or the part `transition`."""

    form: Callable[[Tensor, Tensor], Tensor]
    matrix: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", None)

    def setup(self, run: Run, net: int) -> None:
        """Take what the run remembers as `transition`; the identity where it remembers none."""
        self.matrix = torch.eye(run.classes, device=run.device)
        if (known := run.memory.get("transition")) is not None:
            self.hold(self.usable(run, known))

    def hold(self, T: Float[Tensor, "C C"]) -> None:
        """Use this matrix from now on."""
        assert self.matrix is not None, "a loss is set up before it is told a matrix"
        self.matrix = T.to(self.matrix)

    def usable(self, run: Run, T: Float[Tensor, "C C"]) -> Float[Tensor, "C C"]:
        """Turn an estimated matrix into one that this loss can work with."""
        return T

    def rows(self) -> Float[Tensor, "C C"]:
        """Give the matrix that the loss is computed with."""
        assert self.matrix is not None, "a loss is set up before it is read"
        return self.matrix

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        return ce(logits) if self.matrix is None else self.form(logits, self.rows())


@register_loss("forward")
class Forward(TransitionLoss):
    """Forward correction; see `forward_loss`."""

    form = staticmethod(forward_loss)


@register_loss("backward")
class Backward(TransitionLoss):
    """Backward correction; see `backward_loss`."""

    form = staticmethod(backward_loss)

    def usable(self, run: Run, T: Float[Tensor, "C C"]) -> Float[Tensor, "C C"]:
        """Go halfway to the identity where an estimate has no usable inverse."""
        try:
            return check_transition(T, name="estimated", invertible=True).to(T)
        except SettingsError:
            run.warn(
                "backward: the estimated transition matrix is singular; it was moved halfway to "
                "the identity; warm up for longer, or take `forward`"
            )
            return (T + torch.eye(len(T)).to(T)) / 2


@register_loss("row")
class Row(TransitionLoss):
    """The transposed form; see `row_loss`."""

    form = staticmethod(row_loss)


@register_loss("soft")
class Soft(TransitionLoss):
    """Rows of T as labels; see `soft_loss`."""

    form = staticmethod(soft_loss)


@register_loss("reweight")
class Reweighted(TransitionLoss):
    """Importance reweighting; see `reweighted_loss`."""

    form = staticmethod(reweighted_loss)


@register_loss("t-revision")
class Revision(TransitionLoss):
    """Importance reweighting with a learned slack on T, the same for every row of a batch.

    The weight is differentiable here, and the slack starts at 0. ``normalised`` divides the rows
    of T plus slack by their sums.
    """

    form = staticmethod(partial(reweighted_loss, detach=False))
    normalised: bool = False
    slack: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("slack", None)

    def setup(self, run: Run, net: int) -> None:
        """Take the matrix, and start without slack."""
        super().setup(run, net)
        self.slack = nn.Parameter(torch.zeros(run.classes, run.classes))

    def transition(self) -> Float[Tensor, "C C"]:
        """Give T plus slack as distributions."""
        rows = self.rows().detach()
        return rows / rows.sum(1, keepdim=True)

    def rows(self) -> Float[Tensor, "C C"]:
        """Give T plus slack."""
        T = super().rows()
        # Slack may take an entry below zero, where a probability has no logarithm.
        rows = T if self.slack is None else (T + self.slack).clamp_min(LEAST)
        return rows / rows.sum(1, keepdim=True) if self.normalised else rows


class LearnedTransition(NoiseLayer):
    """Forward correction by rows made of learned scores."""

    lr_scale = 1.0
    others: float
    scores: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("scores", None)

    def setup(self, run: Run, net: int) -> None:
        """Start with an even spread."""
        self.scores = nn.Parameter(self.start(run.classes))

    def restart(self, others: float) -> None:
        """Start with this share of every class spread evenly over the others."""
        assert self.scores is not None, "a layer is set up before it starts"
        self.others = others
        with torch.no_grad():
            self.scores.copy_(self.start(len(self.scores)))

    def start(self, classes: int) -> Float[Tensor, "C C"]:
        """Give the scores at the start."""
        raise NotImplementedError

    def rows(self) -> Float[Tensor, "C C"]:
        """Give T, for gradients to flow through."""
        raise NotImplementedError

    def transition(self) -> Float[Tensor, "C C"]:
        """Give T."""
        return self.rows().detach()

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        if self.scores is None:
            return ce(logits)
        # A gradient cannot pass the logarithm of an entry that was rounded to zero.
        return forward_loss(logits, self.rows().clamp_min(LEAST))


@register_loss("forward-learned")
class ForwardLearned(LearnedTransition):
    """Forward correction by ``T = softmax_j(b_ij)``, learned with the net."""

    others = 0.1

    def start(self, classes: int) -> Float[Tensor, "C C"]:
        """Give the logarithms of an even spread."""
        return near_identity(classes, others=self.others).clamp_min(LEAST).log()

    def rows(self) -> Float[Tensor, "C C"]:
        """Give T, for gradients to flow through."""
        assert self.scores is not None, "a layer is set up before it is read"
        return self.scores.softmax(1)


@register_loss("vol-min")
class VolMin(LearnedTransition):
    """Forward correction by rows that the diagonal dominates; see `dominant_rows`."""

    others = 0.5

    def start(self, classes: int) -> Float[Tensor, "C C"]:
        """Give the scores that spread `others` evenly."""
        # Above half of the diagonal a sigmoid learns slowly, and at the whole of it not at all.
        spread = min(0.5, self.others / max(1, classes - 1) / (1 - self.others))
        return torch.full((classes, classes), math.log(spread / (1 - spread)))

    def rows(self) -> Float[Tensor, "C C"]:
        """Give T, for gradients to flow through."""
        assert self.scores is not None, "a layer is set up before it is read"
        return dominant_rows(self.scores)
