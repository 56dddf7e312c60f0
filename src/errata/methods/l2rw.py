"""Weigh each row of a batch by how much its gradient agrees with that of trusted samples.

**Idea.** A step on a right label also lowers the loss of a few trusted samples; a step on a wrong
one raises it. For every batch the rows' gradients g_i are compared with that of a batch of trusted
samples, v. Rows with ``g_i . v > 0`` share out a weight of one among them, in proportion; the
others are left out of this step. Nothing is kept from step to step.

**Use it** with a small trusted set: ten to a hundred samples of each class, from the same source
as the data. ``--clean`` gives them, or ``--verified`` with the rows that people found right.

**Avoid it** where time is short, and where the trusted samples are few or of another kind: the
weights follow their accidents. Only the direction of the next step is compared, so rows that will
matter later get nothing now. Compare with plain training of the same schedule, with
`clean-only` and with ``scores = "random"``: in the paper, as we remember it, random sparse weights
come within a few points of the learned ones.

**Variants.** ``of = "head"`` compares the gradients of the last layer alone, which takes one
forward pass on top. ``empty = "uniform"`` weighs rows alike where none agrees; the paper's
``skip`` makes no step on them. `decay` adds that much of the weights to v, as the authors' release
does with its weight decay (2e-4). ``scores = "random"`` is the paper's control: rectified normal
numbers as scores.

**Cost.** About 3 in the paper; 3.5 to 4.5 on digits here, 6.4 on Fashion-MNIST, on a processor (one
forward and backward pass of trusted samples, and a backward pass through the backward pass). ``of =
"head"``: 1.6 to 1.8.

**Measured.** ``python benchmarks/trusted_rows.py``: 1,438 digits, 20 epochs, a random tenth of the
rows judged (85 to 103 of them right: these are trusted), seeds 0 to 2. Uniform noise of 40 %: test
accuracy .983, .981, .964 where `erm` has .788, .772, .724 and `clean-only`, on the trusted rows,
.933, .914, .939; with ``of = "head"`` .975, .961, .930. Asymmetric noise of 30 %: .986, .986, .975
(`erm` .705, .788, .708, `clean-only` .902, .911, .950). Area under the ROC curve of the accumulated
margins .999 (uniform; `erm` .988), of the mean weights alone .822. Fashion-MNIST, suite
`fashion-10k-30`, asymmetric 40 %, 1,000 trusted samples, one seed: .828, the best there (`erm`
.767, `clean-only` .808).

**Source.** Ren, Zeng, Yang, Urtasun 2018, arXiv:1803.09050.

**Ours.** The products ``g_i . v`` are exact and taken at the current weights: the look-ahead of the
paper is a step of length 0 and cancels. They come from the graph of the step itself, so mixed
inputs, dropout and label weights count as they are trained on (a weight then belongs to a mix).
Batch norm takes the statistics of each batch, and its running ones are not touched by trusted
samples. Trusted samples are always judged by cross-entropy, also where the loss is another. The
paper weighs by sums, so weights have mean one here. As many trusted samples as rows make a step
(`clean_batch`), 100 of each in the paper. Each of several processes shares out the weight of its
own rows.
"""

# Shapes: B batch.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.methods.card import Card
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

__all__ = ["CARD", "L2RW", "REFUSES"]

_EMPTY = ("skip", "uniform")
_SCORES = ("gradient", "random")


@register_part("l2rw")
@dataclass(kw_only=True)
class L2RW(WeighByTrusted):
    """Weigh the rows of every batch by the agreement of their gradients with trusted samples.

    Attributes:
        empty: What to do where no row agrees: ``skip`` or ``uniform``.
        decay: Weight decay counted into the trusted gradient; 0 leaves it out.
        scores: ``gradient``, or ``random`` as a control.
    """

    empty: str = "skip"
    decay: float = 0.0
    scores: str = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("empty", _EMPTY), ("scores", _SCORES)):
            if getattr(self, name) not in allowed:
                raise unknown_name(f"l2rw {name}", getattr(self, name), allowed)
        if not 0 <= self.decay < math.inf:
            raise SettingsError(
                f"l2rw decay `{self.decay}` is out of range; allowed: 0 and above",
                hint="2e-4 is that of the paper's code",
            )

    def weights(self, run: Run, net: int, look: Seen) -> Float[Tensor, " B"]:
        """Give weights whose products with those of the labels have mean one, or zeros."""
        if self.scores == "random":
            drawn = torch.randn(len(look.losses), generator=run.stream(f"l2rw{net}"))
            scores = drawn.to(look.losses)
        else:
            scores = self._agreement(run, net, look)
        return share_out(scores, look.batch.weight, empty=self.empty) * len(scores)

    def _agreement(self, run: Run, net: int, look: Seen) -> Tensor:
        """Give ``g_i . v`` of every row."""
        compared = learned_parameters(run, net, self.of)
        trusted = draw_trusted(run, self.kind, self.clean_batch or len(look.losses))
        direction = trusted_gradient(run.nets[net], trusted, compared)
        if self.decay:
            pairs = zip(direction, compared.values(), strict=True)
            direction = [v + self.decay * parameter.detach() for v, parameter in pairs]
        none = torch.zeros_like(look.losses)
        return WeightedGradient(look.losses, none, list(compared.values())).along(direction)


REFUSES: dict[str, str] = {
    "clean-only": "training on trusted samples alone leaves no rows to weigh by them",
}

PIPELINE = (
    "forward pass of a batch, and one of trusted samples",
    "gradient of the trusted loss: the direction v",
    "product of each row's gradient with v",
    "negative ones count 0, the others sum to one: the weights",
    "one step on the weighted loss",
)

CARD = Card(
    name="l2rw",
    summary="weighs the rows of each batch by how they agree with trusted samples",
    source="Ren, Zeng, Yang, Urtasun 2018, arXiv:1803.09050",
    year=2018,
    way="trusted",
    pipeline=PIPELINE,
    needs=("clean",),
    text=__doc__ or "",
    refuses=REFUSES | {"mw-net": "both weigh the rows of a batch by the same trusted samples"},
    build=lambda: Recipe(parts=(L2RW(),)),
)
