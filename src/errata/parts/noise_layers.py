"""How noise layers are started, held, kept small and told to the rest of a run.

A loss holds the layer (`errata.losses.layers`); a part says when it learns and how it is kept.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.losses.layers import (
    GoldbergerS,
    NoiseLayer,
    Sukhbaatar,
    confusion_counts,
    project_to_simplex,
)
from errata.losses.layers_nonlinear import NNAQC, Jindal
from errata.losses.layers_sample import RANK, GoldbergerC, NNAQCSample
from errata.losses.pointwise import one_hot
from errata.parts.base import Part, register_part
from errata.types import Moment, Plan, Run, Seen, epoch_of

__all__ = [
    "GoldbergerLayer",
    "JindalLayer",
    "LayerPart",
    "NNAQCLayer",
    "SukhbaatarLayer",
    "check_limits",
    "mean_transition",
    "start_within",
]

_MOST_VALUES = 2**22


def check_limits(part: Part, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse fields of a part that are out of range.

    Raises:
        SettingsError: A value lies outside its limits.
    """
    for name, (least, most) in limits.items():
        value = getattr(part, name)
        if not least <= value <= most or math.isinf(value):
            words = f"{least:g} to {most:g}" if most < math.inf else f"{least:g} and above"
            raise SettingsError(
                f"{part.kind} {name} `{value}` is out of range; allowed: {words}",
                hint=f"{getattr(type(part), name)} is the default",
            )


def start_within(part: Part, start: Moment, run: Run) -> int:
    """Turn the start of a part into an epoch of the stage.

    A share leaves at least one epoch before it, so that the net has learned something.

    Raises:
        SettingsError: It is not within the stage.
    """
    epoch = epoch_of(start, run.epochs)
    if str(start).strip().endswith("%") and run.epochs > 1:
        epoch = max(1, epoch)
    if not 0 <= epoch < run.epochs:
        raise SettingsError(
            f"{part.kind} start `{start}` is not within a stage of {run.epochs} epochs; allowed: "
            f"epoch 0 to {run.epochs - 1}",
            hint="start earlier, or train for longer",
        )
    return epoch


def mean_transition(
    predicted: Float[Tensor, "N C"],
    inputs: Float[Tensor, "N D"],
    transitions: Callable[[Tensor], Tensor],
) -> Float[Tensor, "C C"]:
    """Average the matrices of rows; row i counts each by how much it is believed to be of class i.

    Args:
        predicted: Probabilities.
        inputs: What the matrices are made of.
        transitions: Gives [n, C, C] of n of the inputs.

    Example:
        >>> rows = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
        >>> mean_transition(torch.eye(2), rows, lambda x: x[:, None].expand(-1, 2, 2))
        tensor([[0.8000, 0.2000],
                [0.5000, 0.5000]])
    """
    classes = predicted.shape[1]
    mass = torch.zeros(classes, classes).to(predicted)
    plain = torch.zeros(classes, classes).to(predicted)
    for some in torch.split(torch.arange(len(inputs)), max(1, _MOST_VALUES // classes**2)):
        matrices = transitions(inputs[some]).to(mass)
        mass += torch.einsum("ni,nij->ij", predicted[some], matrices)
        plain += matrices.sum(0)
    # A class that no row is believed to be of gets the plain mean.
    believed = predicted.sum(0)[:, None]
    return torch.where(
        believed > 1e-6, mass / believed.clamp_min(1e-6), plain / max(1, len(inputs))
    )


class LayerPart(Part):
    """A part that looks after the layer of one kind of loss."""

    layer: type[NoiseLayer]

    def layers(self, run: Run) -> dict[int, NoiseLayer]:
        """Find the layer of each net; with another loss there is none."""
        found = {k: loss for k, loss in enumerate(run.losses) if isinstance(loss, self.layer)}
        if not found:
            run.warn(f"{self.kind} has no effect: the loss of this recipe has no such layer")
        return found

    def remember(self, run: Run) -> None:
        """Keep what the layer of the first net makes of certain predictions."""
        if 0 in self.layers(run):
            run.memory["transition"] = self._reading(run, self.layers(run)[0]).float().clone()

    def _reading(self, run: Run, layer: NoiseLayer) -> Tensor:
        last = run.epoch == run.epochs - 1
        if not last or not isinstance(layer, GoldbergerC | NNAQCSample):
            return layer.transition()
        rows = (run.given >= 0).nonzero()[:, 0]
        logits, features = run.sweep(0, rows)
        assert features is not None, "setup has checked that the net gives features"
        with torch.no_grad():
            return mean_transition(logits.softmax(1), features.to(logits), layer.transitions)

    def after_epoch(self, run: Run) -> None:
        """Remember what was learned."""
        self.remember(run)


@register_part("sukhbaatar")
@dataclass(kw_only=True)
class SukhbaatarLayer(LayerPart):
    """Hold the matrix at the identity, then let it learn with a penalty and project its rows.

    Attributes:
        start: When the matrix starts to learn.
        trace: Weight of the mean of its diagonal, which pulls it off the identity.
        decay: Weight of half of its squares over C, which pulls every row towards uniform.
        lr_scale: Learning rate of the matrix over that of the net.
    """

    layer = Sukhbaatar
    start: Moment = "10%"
    trace: float = 0.2
    decay: float = 0.0
    lr_scale: float = 0.5

    def __post_init__(self) -> None:
        epoch_of(self.start, 1)
        check_limits(self, dict.fromkeys(("trace", "decay", "lr_scale"), (0.0, math.inf)))

    def setup(self, run: Run) -> None:
        """Tell the layer its learning rate; refuse a start that never comes."""
        self.epoch_ = start_within(self, self.start, run)
        for layer in self.layers(run).values():
            layer.lr_scale = self.lr_scale

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Let the matrix learn from `start` on."""
        for layer in self.layers(run).values():
            layer.learn(run.epoch >= self.epoch_)
        return plan

    def penalty(self, run: Run, net: int, seen: Seen) -> Tensor | None:
        """Pull the matrix off the identity."""
        layer = self.layers(run).get(net)
        if not isinstance(layer, Sukhbaatar) or run.epoch < self.epoch_:
            return None
        assert layer.matrix is not None, "a layer is set up before it learns"
        squares = layer.matrix.square().sum() / len(layer.matrix)
        return self.trace * layer.matrix.diagonal().mean() + self.decay / 2 * squares

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Bring the rows back to the simplex."""
        for net, layer in self.layers(run).items():
            if net in seen and isinstance(layer, Sukhbaatar) and layer.matrix is not None:
                with torch.no_grad():
                    layer.matrix.copy_(project_to_simplex(layer.matrix))


@register_part("jindal")
@dataclass(kw_only=True)
class JindalLayer(LayerPart):
    """Drop outputs of the layer at random while it trains.

    Attributes:
        dropout: Share of the outputs of the layer that are dropped.
        lr_scale: Learning rate of the layer over that of the net.
    """

    layer = Jindal
    dropout: float = 0.1
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        check_limits(self, {"dropout": (0.0, 0.99), "lr_scale": (0.0, math.inf)})

    def setup(self, run: Run) -> None:
        """Turn the dropout on."""
        for layer in self.layers(run).values():
            layer.lr_scale = self.lr_scale
            if isinstance(layer, Jindal):
                layer.dropout = self.dropout


@register_part("goldberger-s")
@dataclass(kw_only=True)
class GoldbergerLayer(LayerPart):
    """Start the layer at the confusion matrix of the net as it is.

    Attributes:
        counts: ``hard`` counts predicted classes, ``soft`` adds up probabilities.
        plain_share: Weight of the cross-entropy of the net itself, 0 to 1.
        rank: Of the part of the c-model that depends on the sample.
        detach: Holds the gradient of that part back from the features.
        lr_scale: Learning rate of the layer over that of the net.
    """

    layer = GoldbergerS
    counts: str = "hard"
    plain_share: float = 0.0
    rank: int = RANK
    detach: bool = False
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.counts not in ("hard", "soft"):
            raise unknown_name("goldberger-s counts", self.counts, ("hard", "soft"))
        limits = {"plain_share": (0.0, 1.0), "rank": (1.0, math.inf), "lr_scale": (0.0, math.inf)}
        check_limits(self, limits)

    def setup(self, run: Run) -> None:
        """Tell the layer its settings."""
        for net, layer in self.layers(run).items():
            layer.lr_scale = self.lr_scale
            if isinstance(layer, GoldbergerS):
                layer.plain_share = self.plain_share
            if isinstance(layer, GoldbergerC):
                layer.reshape(run, net, rank=self.rank, detach=self.detach)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Count once what the net confuses, before the first step."""
        for net, layer in self.layers(run).items():
            if run.epoch == 0 and isinstance(layer, GoldbergerS):
                believed = run.sweep(net)[0].softmax(1)
                if self.counts == "hard":
                    believed = one_hot(believed.argmax(1), run.classes).to(believed)
                layer.start_from(confusion_counts(believed, run.given))
        return plan


@register_part("nnaqc")
@dataclass(kw_only=True)
class NNAQCLayer(LayerPart):
    """Keep the non-linear layer near its start.

    Attributes:
        decay: Weight of half of the squared distance from the start.
        decay_on: ``start`` decays all of it, ``off-diagonal`` leaves the diagonal free.
        rank: Of the part of ``W(x)`` that depends on the sample.
        detach: Holds the gradient of that part back from the features.
        lr_scale: Learning rate of the layer over that of the net.
    """

    layer = NNAQC
    decay: float = 1e-3
    decay_on: str = "start"
    rank: int = RANK
    detach: bool = False
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.decay_on not in ("start", "off-diagonal"):
            raise unknown_name("nnaqc decay_on", self.decay_on, ("start", "off-diagonal"))
        limits = {"decay": (0.0, math.inf), "rank": (1.0, math.inf), "lr_scale": (0.0, math.inf)}
        check_limits(self, limits)

    def setup(self, run: Run) -> None:
        """Tell the layer its settings."""
        for net, layer in self.layers(run).items():
            layer.lr_scale = self.lr_scale
            if isinstance(layer, NNAQCSample):
                layer.reshape(run, net, rank=self.rank, detach=self.detach)

    def penalty(self, run: Run, net: int, seen: Seen) -> Tensor | None:
        """Pull the layer back to where it started."""
        layer = self.layers(run).get(net)
        if not isinstance(layer, NNAQC) or layer.weight is None or self.decay == 0:
            return None
        moved = layer.weight - layer.start(run.classes).to(layer.weight)
        if self.decay_on == "off-diagonal":
            moved = moved - moved.diagonal().diag()
        squares = moved.square().sum()
        if isinstance(layer, NNAQCSample):
            squares = squares + layer.sample.expand.square().sum()
        return self.decay / 2 * squares
