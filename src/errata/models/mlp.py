"""A classifier as body and head, and the perceptron for vectors.

Shapes: B batch, D features, C classes.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Net", "he_init", "mlp"]


class Net(nn.Module):
    """A body that ends in a ReLU, and a linear head: ``head(body(x))``.

    Features [B, D] are therefore never negative, which the simulation of ODD relies on.
    """

    def __init__(self, body: nn.Sequential, *, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B C"]:
        """Give the logits."""
        logits: Tensor = self.head(self.body(x))
        return logits


def he_init(net: Net) -> Net:
    """Initialise a net by fan-out for convolutions and fan-in for linear layers, biases 0.

    Draws from the global generator, as torch itself does: wrap the call in `fork_rng`.
    Source: He et al. 2015, arXiv:1502.01852.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return net


def mlp(shape: tuple[int, ...], classes: int) -> Net:
    """Two hidden layers of 256 with batch norm and ReLU, over the flattened input."""
    width = 256
    body = nn.Sequential(nn.Flatten())
    for inputs in (math.prod(shape), width):
        # Batch norm subtracts the mean, so that a bias before it would have no effect.
        body.extend(
            (nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
        )
    return he_init(Net(body, width=width, classes=classes))
