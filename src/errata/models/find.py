"""Find the layer that turns features into logits, in any module."""

from __future__ import annotations

from torch import nn

from errata.errors import ErrataError

__all__ = ["find_head"]


def find_head(module: nn.Module) -> nn.Linear:
    """Find the last linear layer: its input are the features, its output the logits.

    Looks for a linear layer under the names ``head``, ``fc`` and ``classifier``, then takes the
    last one in the order of construction.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        Linear(in_features=8, out_features=3, bias=True)

    Raises:
        ErrataError: The module has no linear layer.
    """
    for name in ("head", "fc", "classifier"):
        named = getattr(module, name, None)
        if isinstance(named, nn.Linear):
            return named
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ErrataError(
            f"model `{type(module).__name__}` has no linear layer; allowed: models that end in an "
            "`nn.Linear`",
            hint="end the model in a linear layer and store it as `self.head`",
        )
    return layers[-1]
