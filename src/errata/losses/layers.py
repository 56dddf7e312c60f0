"""Linear layers between what a net predicts and the label it was given.

The net predicts a true class, the layer turns that into a distribution of given labels, and the
loss is the cross-entropy of that one. At test time the layer is left out.

Shapes: B batch, N training rows, C classes. In formulas s is the softmax of the logits, and
T[i, j] is the probability of the given label j where class i is true, so that rows sum to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.losses.base import Loss, register_loss
from errata.losses.pointwise import ce, in_full, one_hot
from errata.types import Batch, Run

__all__ = [
    "GoldbergerS",
    "NoiseLayer",
    "Sukhbaatar",
    "confusion_counts",
    "linear_layer",
    "linear_layers",
    "log_rows_of_counts",
    "near_identity",
    "number_setting",
    "project_to_simplex",
]

# What is added to a probability before its logarithm is taken: identity rows hold zeros.
_LEAST = 1e-12
_COUNT = 1e-8
"""What Goldberger's code adds before it takes the logarithm."""
_OTHERS = 0.1


def linear_layer(
    logits: Float[Tensor, "B C"], transition: Float[Tensor, "C C"]
) -> Float[Tensor, "B C"]:
    """Cross-entropy of the given label behind a linear layer, ``-ln (s T)_y`` [nats].

    With the identity this is cross-entropy (up to 27 nats, where both are cut off).

    Args:
        logits: [B, C].
        transition: T, row-stochastic.

    Example:
        >>> t = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> linear_layer(torch.tensor([[0.9, 0.1]]).log(), t).neg().exp()
        tensor([[0.7600, 0.2400]])
    """
    predicted = ce(logits).neg().exp()
    return -(predicted @ transition + _LEAST).log()


def linear_layers(
    logits: Float[Tensor, "B C"], transitions: Float[Tensor, "B C C"]
) -> Float[Tensor, "B C"]:
    """The same with a matrix for each row, ``-ln (s T(x))_y`` [nats]."""
    predicted = ce(logits).neg().exp()
    return -(torch.einsum("bi,bij->bj", predicted, transitions) + _LEAST).log()


def near_identity(classes: int, *, others: float = _OTHERS) -> Float[Tensor, "C C"]:
    """Give the matrix that moves a share of every class evenly to the other ones.

    A softmax cannot learn from an identity, whose gradient is nought.

    Args:
        classes: C.
        others: Share of a class that is given another label, 0 to 1.

    Example:
        >>> near_identity(3, others=0.5)
        tensor([[0.5000, 0.2500, 0.2500],
                [0.2500, 0.5000, 0.2500],
                [0.2500, 0.2500, 0.5000]])
    """
    spread = others / max(1, classes - 1)
    return torch.full((classes, classes), spread).fill_diagonal_(1 - others)


def project_to_simplex(rows: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """Move each row to the nearest distribution: no entry below 0, and a sum of one.

    Source: the algorithm by sorting of Duchi et al. 2008.

    Example:
        >>> project_to_simplex(torch.tensor([[0.5, 0.7], [2.0, 0.0], [0.2, 0.8]]))
        tensor([[0.4000, 0.6000],
                [1.0000, 0.0000],
                [0.2000, 0.8000]])
    """
    ordered = rows.sort(dim=1, descending=True).values
    over = ordered.cumsum(1) - 1
    places = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    kept = (ordered * places > over).sum(1, keepdim=True)
    return (rows - over.gather(1, kept - 1) / kept).clamp_min(0)


def confusion_counts(
    believed: Float[Tensor, "N C"], given: Int[Tensor, " N"]
) -> Float[Tensor, "C C"]:
    """Count how often rows believed to be of class i are given label j.

    Args:
        believed: One-hot predictions give hard counts, a softmax gives soft ones.
        given: Class numbers; rows without label (negative) do not count.

    Example:
        >>> confusion_counts(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]))
        tensor([[1., 1.],
                [0., 1.]])
    """
    return believed.T @ one_hot(given, believed.shape[1]).to(believed)


def log_rows_of_counts(
    counts: Float[Tensor, "C C"], *, others: float = _OTHERS
) -> Float[Tensor, "C C"]:
    """Give the logits b of a layer whose rows are those of a confusion matrix.

    ``b_ij = ln(counts_ij / sum_j counts_ij + 1e-8)``, so that a softmax gives the shares back.
    Source: the code of Goldberger and Ben-Reuven 2017.

    Args:
        counts: From `confusion_counts`.
        others: A class that was never predicted tells nothing; ours: it starts as in
            `near_identity` with this share.

    Example:
        >>> log_rows_of_counts(torch.tensor([[8.0, 2.0], [4.0, 6.0]])).softmax(1)
        tensor([[0.8000, 0.2000],
                [0.4000, 0.6000]])
    """
    sums = counts.sum(1, keepdim=True)
    unknown = near_identity(len(counts), others=others).to(counts)
    return (torch.where(sums > 0, counts / sums.clamp_min(_COUNT), unknown) + _COUNT).log()


def number_setting(
    loss: str,
    name: str,
    value: float | int | str | bool,
    *,
    allowed: str,
    fits: Callable[[float], bool],
) -> float:
    """Check a setting of a loss.

    Raises:
        SettingsError: It is no finite number, or does not fit.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and fits(number):
            return number
    raise SettingsError(
        f"`{name}` of loss `{loss}` is `{value}`; allowed: {allowed}",
        hint=f"leave `{name}` out for the default",
    )


class NoiseLayer(Loss):
    """A loss with a learned layer between the prediction and the given label."""

    def learn(self, on: bool) -> None:
        """Let the layer learn, or hold it."""
        for parameter in self.parameters():
            parameter.requires_grad_(on)

    def transition(self) -> Float[Tensor, "C C"]:
        """Give what a certain prediction of class i makes of the labels: rows of T."""
        raise NotImplementedError


def bounded(parameter: Tensor) -> Tensor:
    """Give a parameter whose gradient has a norm of at most one.

    One row with a label that the net finds impossible must not throw the layer off its simplex.
    """
    if not (parameter.requires_grad and torch.is_grad_enabled()):
        return parameter
    same = parameter * 1.0
    when_backward: Callable[[Callable[[Tensor], Tensor]], object] = same.register_hook
    when_backward(lambda gradient: gradient / gradient.norm().clamp_min(1.0))
    return same


@register_loss("sukhbaatar")
class Sukhbaatar(NoiseLayer):
    """A row-stochastic matrix, the identity at first; see `linear_layer`.

    The part `sukhbaatar` lets it learn, and projects its rows after every step; without that it
    stays the identity.
    """

    matrix: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("matrix", None)

    def setup(self, run: Run, net: int) -> None:
        """Start at the identity, and stay there until told to learn."""
        self.matrix = nn.Parameter(torch.eye(run.classes), requires_grad=False)

    def transition(self) -> Float[Tensor, "C C"]:
        """Give T."""
        assert self.matrix is not None, "a layer is set up before it is read"
        return self.matrix.detach()

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        if self.matrix is None:
            return linear_layer(logits, torch.eye(logits.shape[1]).to(logits))
        return linear_layer(logits, bounded(self.matrix))


@register_loss("goldberger-s")
class GoldbergerS(NoiseLayer):
    """The simple model, ``T = softmax_j(b_ij)``; see `linear_layer`.

    The part `goldberger-s` starts it at the confusion matrix of a plain net; without that it
    starts near the identity. `plain_share` weighs the cross-entropy of the net itself.
    """

    plain_share: float = 0.0
    scores: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("scores", None)

    def setup(self, run: Run, net: int) -> None:
        """Start near the identity."""
        self.scores = nn.Parameter(near_identity(run.classes).log())

    def start_from(self, counts: Float[Tensor, "C C"]) -> None:
        """Start at the rows of a confusion matrix."""
        assert self.scores is not None, "a layer is set up before it starts"
        with torch.no_grad():
            self.scores.copy_(log_rows_of_counts(counts))

    def transition(self) -> Float[Tensor, "C C"]:
        """Give T."""
        assert self.scores is not None, "a layer is set up before it is read"
        return self.scores.detach().softmax(1)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        rows = near_identity(logits.shape[1]).log() if self.scores is None else self.scores
        return self.with_plain(logits, linear_layer(logits, rows.to(logits).softmax(1)))

    def with_plain(
        self, logits: Float[Tensor, "B C"], matrix: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B C"]:
        """Mix the loss behind the layer with that of the net itself."""
        if self.plain_share == 0:
            return matrix
        return torch.lerp(matrix, ce(logits), self.plain_share)
