"""Learn the curve from a row's loss to its weight, so that trusted samples profit.

**Idea.** A small net V, with one hidden layer, turns the loss of a row into its weight, 0 to 1. At
every step the weights V gives now are tried in a look-ahead step of the classifier; V is then
moved so that the classifier after this step would do better on trusted samples; and the
classifier takes its real step with the new weights. Where labels are wrong V learns to fall with
the loss; where rare classes are too weak it may learn to rise.

**Use it** with a trusted set as for `l2rw` (the paper takes 1,000 samples, balanced over the
classes) when long training lets a stable curve emerge. It weighs by the loss alone, so it cannot
single out a row as `l2rw` can, and moves less from batch to batch.

**Avoid it** in short training: V is learned by small steps (Adam, 1e-3) and stays near one half
for the first hundreds of them, where it only halves the learning rate. Compare with plain training
of the same schedule: part of the published gains over it vanish then, as users of the authors'
release found.

**Variants.** ``of = "head"`` looks ahead in the last layer alone. ``normalise = true`` lets the
weights of a batch sum to one (the authors' older script for WRN-28-10). `hidden`, `lr` and `decay`
are of V.

**Cost.** About that of `l2rw`: 4 on a processor, 1.7 with ``of = "head"``.

**Measured.** ``python benchmarks/trusted_rows.py``, digits as on the card of `l2rw`, with the same
verdicts. Uniform noise of 40 %: test accuracy .942, .928, .930, no better than training on the
trusted rows alone (`clean-only` .933, .914, .939; `l2rw` .983, .981, .964; `erm` .788, .772, .724).
Area under the ROC curve of the accumulated margins .997, of the mean weights .999. With ``of =
"head"`` it fails: .785, .774, .760, and large losses weigh most. Asymmetric noise of 30 %: .744,
.791, .719 (`erm` .705, .788, .708; `clean-only` .902, .911, .950): a weight that depends on the
loss alone cannot tell a wrong label from a right one of the class that it was taken from.

**Source.** Shu, Xie, Yi, Zhao, Zhou, Xu, Meng 2019, arXiv:1902.07379.

**Ours.** The gradient of V is exact, in closed form: ``-a sum_i (g_i . v) dw_i``, with g_i at the
current weights, v that of the trusted loss after the look-ahead, and ``a`` the learning rate of the
step. The look-ahead is plain descent, without momentum and weight decay, as in the authors'
release; it leaves the running statistics of batch norm alone. As many trusted samples as rows make
a step (`clean_batch`), 100 of each there, and they need not be balanced. The learning rates are
those of this package. V starts as torch's linear layers do. Weights of labels count in the
look-ahead. Each of several processes learns V from its own rows.
"""

# Shapes: B batch, p = 3 H + 1 numbers of a net with H hidden units.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from errata.errors import SettingsError
from errata.methods.card import Card
from errata.methods.l2rw import REFUSES
from errata.parts.base import Recipe, register_part
from errata.parts.reweighting import (
    WeighByTrusted,
    WeightedGradient,
    draw_trusted,
    learned_parameters,
    share_out,
    trusted_gradient,
)
from errata.types import Run, Seen

__all__ = ["CARD", "MetaWeightNet", "adam_step", "start_curve", "weight_curve"]


def weight_curve(losses: Float[Tensor, " B"], curve: Float[Tensor, " p"]) -> Float[Tensor, " B"]:
    """Give the weights, 0 to 1, of losses [nats]: one hidden layer with ReLU, then a sigmoid.

    Args:
        losses: Of the rows; taken as given numbers.
        curve: H weights and H biases of the hidden layer, H weights and one bias of the last.

    Example:
        >>> weight_curve(torch.tensor([0.0, 2.0]), torch.tensor([1.0, -1.0, -2.0, 0.0]))
        tensor([0.5000, 0.1192])
    """
    hidden = (len(curve) - 1) // 3
    slope, start, out = curve[: 3 * hidden].reshape(3, hidden)
    layer = (losses.detach().to(curve)[:, None] * slope + start).relu()
    return torch.sigmoid(layer @ out + curve[-1])


def start_curve(hidden: int, rng: torch.Generator) -> Float[Tensor, " p"]:
    """Draw the curve to start from, in the ranges of torch's linear layers."""
    drawn = torch.rand(3 * hidden + 1, generator=rng, dtype=torch.float64) * 2 - 1
    drawn[2 * hidden :] /= math.sqrt(hidden)
    return drawn


def adam_step(
    curve: Float[Tensor, " n"],
    gradient: Float[Tensor, " n"],
    moments: Float[Tensor, "2 n"],
    step: int,
    *,
    lr: float,
    decay: float,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "2 n"]]:
    """Take one step of Adam with its usual constants (Kingma and Ba 2015), and L2 decay.

    Args:
        curve: What is learned.
        gradient: Of the loss.
        moments: Running means of the gradient and its square; zeros at first.
        step: Number of this step, from 1.
        lr: Learning rate.
        decay: Added to the gradient, times the curve.

    Returns:
        The new curve and the new moments.
    """
    gradient = gradient + decay * curve
    rates = moments.new_tensor([0.9, 0.999])[:, None]
    moments = rates * moments + (1 - rates) * torch.stack([gradient, gradient.square()])
    mean, square = moments / (1 - rates**step)
    return curve - lr * mean / (square.sqrt() + 1e-8), moments


_LIMITS = {"hidden": 1, "lr": 0, "decay": 0}


@register_part("mw-net")
@dataclass(kw_only=True)
class MetaWeightNet(WeighByTrusted):
    """Weigh rows by a learned function of their loss.

    Attributes:
        hidden: Units of the weighing net.
        normalise: Weights of a batch sum to one before the mean; else they are 0 to 1 each.
        lr: Learning rate of Adam.
        decay: Weight decay of the weighing net.
    """

    hidden: int = 100
    normalise: bool = False
    lr: float = 1e-3
    decay: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in _LIMITS.items():
            if not least <= getattr(self, name) < math.inf:
                raise SettingsError(
                    f"mw-net {name} `{getattr(self, name)}` is out of range; allowed: {least} and "
                    "above",
                    hint=f"{getattr(MetaWeightNet, name)} is the default",
                )

    def setup(self, run: Run) -> None:
        """Make a weighing net for each net."""
        super().setup(run)
        for net in range(len(run.nets)):
            curve = start_curve(self.hidden, run.stream(f"mw-net{net}")).to(run.device)
            run.memory[f"mw_net{net}"] = curve
            run.memory[f"mw_net{net}_moments"] = torch.zeros(2, len(curve)).to(curve)
            run.memory[f"mw_net{net}_steps"] = torch.zeros((), dtype=torch.int64)

    def weights(self, run: Run, net: int, look: Seen) -> Float[Tensor, " B"]:
        """Move the weighing net, then give its weights."""
        self._learn(run, net, look)
        return self._weights(look, run.memory[f"mw_net{net}"])

    def _weights(self, look: Seen, curve: Tensor) -> Tensor:
        """Give the factor of each row's loss in the mean."""
        found = weight_curve(look.losses, curve).to(look.losses)
        if self.normalise:
            found = share_out(found, look.batch.weight) * len(found)
        return found

    def _learn(self, run: Run, net: int, look: Seen) -> None:
        name = f"mw_net{net}"
        curve = run.memory[name].detach().requires_grad_()
        rate = run.lr
        weights = self._weights(look, curve) * look.batch.weight / len(look.losses)
        compared = learned_parameters(run, net, self.of)
        step = WeightedGradient(look.losses, weights, list(compared.values()))
        ahead = {
            each: parameter.detach() - rate * gradient
            for (each, parameter), gradient in zip(compared.items(), step.values, strict=True)
        }
        trusted = draw_trusted(run, self.kind, self.clean_batch or len(look.losses))
        agreement = step.along(trusted_gradient(run.nets[net], trusted, ahead))
        gradient = torch.autograd.grad(-rate * (agreement * weights).sum(), curve)[0]
        steps = run.memory[f"{name}_steps"] + 1
        moved, moments = adam_step(
            curve.detach(),
            gradient,
            run.memory[f"{name}_moments"],
            int(steps),
            lr=self.lr,
            decay=self.decay,
        )
        run.memory.update({name: moved, f"{name}_moments": moments, f"{name}_steps": steps})


PIPELINE = (
    "losses of a batch; the weighing net turns them into weights",
    "look-ahead: a trial step of the classifier with these weights",
    "gradient of the trusted loss after it moves the weighing net",
    "the real step, with the new weights",
)

CARD = Card(
    name="mw-net",
    summary="a small net learns the weight of a row from its loss, by trusted samples",
    source="Shu et al. 2019, arXiv:1902.07379",
    year=2019,
    way="trusted",
    pipeline=PIPELINE,
    needs=("clean",),
    text=__doc__ or "",
    refuses=REFUSES,
    build=lambda: Recipe(parts=(MetaWeightNet(),)),
)
