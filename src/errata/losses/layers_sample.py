"""Layers whose matrix depends on the sample: the same for every row, plus a low rank of x.

Shapes: B batch, n rows, C classes, D features, R rank. In formulas h(x) are the features that
enter the head.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.losses.base import register_loss
from errata.losses.layers import (
    GoldbergerS,
    NoiseLayer,
    linear_layer,
    linear_layers,
    near_identity,
)
from errata.losses.layers_nonlinear import (
    NNAQC,
    nonlinear_layers,
    quasi_clustering,
)
from errata.losses.pointwise import in_full
from errata.types import Batch, Run

__all__ = ["BLTM", "GoldbergerC", "LowRank", "NNAQCSample", "fit_rows", "principal_codes"]

RANK = 8
CODES = "bltm_code"
"""Column of the codes that the transition of a row is read from."""


class LowRank(nn.Module):
    """Adds to a matrix what the features say: ``U (V h(x))``, zero at first.

    A full matrix per feature has ``C^2 D`` numbers, this one ``R (C^2 + D)``.

    Args:
        width: D.
        classes: C.
        rank: R.
        generator: CPU generator that V is drawn from; U starts at zero.
        detach: Holds the gradient back from the features.
    """

    def __init__(
        self, width: int, classes: int, *, rank: int, generator: torch.Generator, detach: bool
    ) -> None:
        super().__init__()
        drawn = torch.randn(rank, width, generator=generator) / math.sqrt(width)
        self.reduce = nn.Parameter(drawn)
        self.expand = nn.Parameter(torch.zeros(classes, classes, rank))
        self.detach = detach

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B C C"]:
        """Give the matrix of each row."""
        features = features.to(self.reduce.dtype)
        codes = (features.detach() if self.detach else features) @ self.reduce.T
        return torch.einsum("br,ijr->bij", codes, self.expand)


def feature_width(run: Run, net: int, loss: str) -> int:
    """Give D, or fail early on a net that does not give its features.

    Raises:
        ErrataError: The net has no linear head, or does not run it on vectors.
    """
    head = run.head(net)
    features = run.sweep(net, (run.given >= 0).nonzero()[:2, 0])[1]
    if features is None or features.shape[1:] != (head.in_features,):
        raise SettingsError(
            f"loss `{loss}` needs the features that enter the last linear layer, and the net does "
            "not run it on one vector a sample; allowed: a net that ends in one",
            hint="end the model in a linear layer and store it as `self.head`, or take the recipe "
            "of the same name without features",
        )
    return head.in_features


@register_loss("goldberger-c")
class GoldbergerC(GoldbergerS):
    """The complex model, low-rank: ``T(x) = softmax_j(b_ij + (U V h(x))_ij)``."""

    def setup(self, run: Run, net: int) -> None:
        """Start near the identity, without any say of the features."""
        super().setup(run, net)
        self.reshape(run, net)

    def reshape(self, run: Run, net: int, *, rank: int = RANK, detach: bool = False) -> None:
        """Start the sample-dependent part afresh."""
        width, rng = feature_width(run, net, "goldberger-c"), run.stream(f"goldberger{net}")
        made = LowRank(width, run.classes, rank=rank, generator=rng, detach=detach)
        self.sample = made.to(self.scores)

    def transitions(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B C C"]:
        """Give T(x) of each row."""
        assert self.scores is not None, "a layer is set up before it is read"
        said: Tensor = self.sample(features)
        return (self.scores + said).softmax(2)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        if self.scores is None or features is None:
            return super().forward(logits, batch, features)
        return self.with_plain(logits, linear_layers(logits, self.transitions(features)))


@register_loss("nnaqc-w")
class NNAQCSample(NNAQC):
    """NNAQC with ``W(x) = W0 + U V h(x)``, the softmax kept."""

    name = "nnaqc-w"

    def setup(self, run: Run, net: int) -> None:
        """Start at a multiple of the identity, without any say of the features."""
        super().setup(run, net)
        self.reshape(run, net)

    def reshape(self, run: Run, net: int, *, rank: int = RANK, detach: bool = False) -> None:
        """Start the sample-dependent part afresh."""
        width, rng = feature_width(run, net, self.name), run.stream(f"nnaqc{net}")
        made = LowRank(width, run.classes, rank=rank, generator=rng, detach=detach)
        self.sample = made.to(self.weight)

    def transitions(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B C C"]:
        """Give what the layer makes of certain predictions of each row."""
        return self._weights(features).transpose(1, 2).softmax(2)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        if self.weight is None or features is None:
            return super().forward(logits, batch, features)
        behind = nonlinear_layers(logits, self._weights(features))
        return torch.lerp(quasi_clustering(logits, beta=self.beta), behind, self.alpha)

    def _weights(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B C C"]:
        assert self.weight is not None, "a layer is set up before it is read"
        said: Tensor = self.sample(features)
        return self.weight + said


@register_loss("bltm")
class BLTM(NoiseLayer):
    """Forward correction by a transition of each row that was fitted before.

    ``T(x) = softmax_j(b_ij + (U c(x))_ij)`` with codes c(x) that the part `bltm` keeps in the
    ledger; without it, near the identity. `slack` of the part lets b learn on.
    """

    scores: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("scores", None)
        self.register_buffer("expand", None)

    def setup(self, run: Run, net: int) -> None:
        """Start near the identity."""
        self.scores = nn.Parameter(near_identity(run.classes).log(), requires_grad=False)
        self.ledger_ = run.ledger

    def reshape(self, classes: int, rank: int) -> None:
        """Make room for the part of the matrix that depends on the sample."""
        self.expand = torch.zeros(classes, classes, rank).to(self.scores)

    def start_from(self, scores: Float[Tensor, "C C"], expand: Float[Tensor, "C C R"]) -> None:
        """Take over what was fitted."""
        assert self.scores is not None, "a layer is set up before it starts"
        with torch.no_grad():
            self.scores.copy_(scores)
        self.expand = expand.clone()

    def transition(self) -> Float[Tensor, "C C"]:
        """Give T of a row whose code is zero."""
        assert self.scores is not None, "a layer is set up before it is read"
        return self.scores.detach().softmax(1)

    def transitions(self, codes: Float[Tensor, "B R"]) -> Float[Tensor, "B C C"]:
        """Give T(x) of rows with these codes."""
        assert self.scores is not None, "a layer is set up before it is read"
        return (self.scores + torch.einsum("br,ijr->bij", codes, self.expand)).softmax(2)

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix."""
        logits = in_full(logits)
        if self.scores is None:
            return linear_layer(logits, near_identity(logits.shape[1]).to(logits))
        if batch is None or self.expand is None:
            return linear_layer(logits, self.scores.softmax(1))
        codes = self.ledger_.read(CODES, batch.rows).to(logits)
        return linear_layers(logits, self.transitions(codes))


def principal_codes(features: Float[Tensor, "n D"], *, rank: int) -> Float[Tensor, "n R"]:
    """Give the largest principal components of features, scaled to a mean square of one.

    The largest component sets the scale of all of them, so that small ones stay small.

    Args:
        features: [n, D].
        rank: R; places beyond D stay zero.
    """
    centred = features - features.mean(0)
    values, directions = torch.linalg.eigh((centred.T @ centred).double() / max(1, len(centred)))
    kept = min(rank, len(values))
    scaled = directions[:, -kept:] / values[-1].clamp_min(1e-12).sqrt()
    return torch.nn.functional.pad(centred @ scaled.to(centred), (0, rank - kept))


def fit_rows(
    codes: Float[Tensor, "n R"],
    given: Int[Tensor, " n"],
    start: Float[Tensor, " C"],
    *,
    ridge: float = 0.05,
    steps: int = 200,
) -> tuple[Float[Tensor, " C"], Float[Tensor, "C R"]]:
    """Fit one row of T(x) to rows believed to be of its class: multinomial logistic regression.

    Minimises the mean of ``-ln softmax(b + U c)_given`` plus ``ridge / 2 |U|^2`` by accelerated
    gradient descent, which gives the same result whatever the order of the rows.

    Args:
        codes: [n, R] of these rows.
        given: [n] their labels.
        start: [C] where b starts; with no rows it stays there.
        ridge: How strongly U is held at zero, 0 and above.
        steps: Of the descent.

    Returns:
        b [C] and U [C, R].
    """
    offset, slope = start.clone(), torch.zeros(len(start), codes.shape[1]).to(start)
    if not len(codes):
        return offset, slope
    wanted = torch.nn.functional.one_hot(given, len(start)).to(codes)
    # Half of the largest eigenvalue bounds the curvature of a softmax; one for the offset.
    largest = 1 + float((codes.square().sum(1)).mean())
    rate = 1 / (0.5 * largest + ridge)
    fast_offset, fast_slope = torch.zeros_like(offset), torch.zeros_like(slope)
    for _ in range(steps):
        ahead = offset + 0.9 * fast_offset, slope + 0.9 * fast_slope
        wrong = ((ahead[0] + codes @ ahead[1].T).softmax(1) - wanted) / len(codes)
        fast_offset = 0.9 * fast_offset - rate * wrong.sum(0)
        fast_slope = 0.9 * fast_slope - rate * (wrong.T @ codes + ridge * ahead[1])
        offset, slope = offset + fast_offset, slope + fast_slope
    return offset, slope
