"""A loss is a matrix: what each class would cost each row.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from errata.errors import unknown_name
from errata.types import Batch, Run

__all__ = ["Loss", "expected_loss", "loss_named", "loss_names", "register_loss"]


class Loss(nn.Module):
    """Maps logits [B, C] to the loss that each class would cost, [B, C].

    Learned matrices are parameters of the loss; the engine gives them to the optimizer, without
    weight decay and with `lr_scale` times the learning rate of the nets.
    """

    lr_scale: float = 1.0

    def setup(self, run: Run, net: int) -> None:
        """Make what depends on the run: parameters of C classes, ledger columns, a start.

        Called when a stage starts, after its nets were made and before its optimizers are.
        """

    def forward(
        self,
        logits: Float[Tensor, "B C"],
        batch: Batch | None = None,
        features: Float[Tensor, "B D"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Give the matrix.

        Args:
            logits: [B, C].
            batch: For losses that read the ledger rows of the batch; most do not.
            features: What entered the head, for losses that depend on the sample; most do not.
        """
        raise NotImplementedError


def expected_loss(
    matrix: Float[Tensor, "B C"], target: Float[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """Give each row's loss: the expectation of its matrix row under its target.

    Every loss is linear in the target, so mixing labels and mixing losses are the same thing.
    """
    return (matrix * target).sum(1)


L = TypeVar("L", bound=Callable[..., Loss])
_LOSSES: dict[str, Callable[..., Loss]] = {}


def register_loss(name: str) -> Callable[[L], L]:
    """Make a loss known by name, to settings and to the contract battery."""

    def add(build: L) -> L:
        assert name not in _LOSSES, f"loss {name} is registered twice"
        _LOSSES[name] = build
        return build

    return add


def loss_names() -> tuple[str, ...]:
    """List the registered losses."""
    return tuple(sorted(_LOSSES))


def loss_named(name: str, **values: float | int | str | bool) -> Loss:
    """Build a registered loss.

    Raises:
        SettingsError: No loss has this name, or it has no such setting, or refuses a value.
    """
    if name not in _LOSSES:
        raise unknown_name("loss", name, _LOSSES)
    build = _LOSSES[name]
    parameters = inspect.signature(build).parameters.values()
    settings = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for given in values:
        if given not in settings:
            raise unknown_name(f"setting of loss `{name}`", given, settings or ["none"])
    return build(**values)
