"""Dropout on what enters the head.

Shapes: B batch, N rows, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.losses.layers_nonlinear import keep_by_id, keys_of_ids
from errata.parts.base import Part, register_part
from errata.types import Batch, Run

__all__ = ["Dropout"]


class _Thinner:
    """A hook before a head: multiplies its next input in training mode by a mask, once.

    A stage that knows nothing of it sets no mask, so that a hook of an earlier stage does nothing.
    """

    def __init__(self) -> None:
        self.mask: Float[Tensor, "B D"] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
        if self.mask is None or not module.training:
            return None
        mask, self.mask = self.mask, None
        return (inputs[0] * mask.to(inputs[0]),)


@register_part("dropout")
@dataclass(kw_only=True)
class Dropout(Part):
    """Set random features to zero before the head, in the forward pass of each step.

    The mask of a row depends on its id and the step, not on its place in the batch. Parts and
    losses see the features as they were before.

    Attributes:
        rate: Share of the features that are set to zero, from 0 to below 1.
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise SettingsError(
                f"dropout rate `{self.rate}` is out of range; allowed: 0 and above, below 1",
                hint="0.5 is the default",
            )

    def setup(self, run: Run) -> None:
        """Put a hook before each head; refuse nets whose head takes no features."""
        entered = run.sweep(0, (run.given >= 0).nonzero()[:2, 0])[1]
        self.width_ = run.head(0).in_features
        if entered is None or entered.shape[1:] != (self.width_,):
            raise SettingsError(
                "dropout needs the features that enter the last linear layer, and the net does not "
                "run it on one vector a sample; allowed: a net that ends in one",
                hint="end the model in a linear layer and store it as `self.head`",
            )
        self.keys_ = keys_of_ids(run.ledger.ids).to(run.device)
        self.hooks_ = [_Thinner() for _ in run.nets]
        for net, hook in enumerate(self.hooks_):
            run.head(net).register_forward_pre_hook(hook)

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Draw the mask of this step."""
        if self.rate > 0:
            drawn = torch.randint(2**62, (1,), generator=run.stream(f"dropout{net}"))
            # Trusted samples have no keys of their own and borrow some.
            keys = self.keys_[batch.rows % len(self.keys_)]
            self.hooks_[net].mask = keep_by_id(
                keys, share=1 - self.rate, classes=self.width_, key=int(drawn)
            )
        return batch
