"""Small convolutional nets that train on two cores in minutes.

Shapes: B batch, D features, H height, W width.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from errata.models.mlp import Net, he_init

__all__ = ["AveragePool", "conv", "conv_he", "conv_photo"]


class AveragePool(nn.Module):
    """Mean over all places of a map: [B, D, H, W] to [B, D].

    A plain mean, because the backward pass of torch's adaptive pooling is not deterministic on
    every device.
    """

    def forward(self, maps: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D"]:
        """Give the means."""
        return maps.mean((2, 3))


def conv(shape: tuple[int, ...], classes: int) -> Net:
    """Three convolutions of 32, 64 and 128 channels, for images of 8 to about 40 pixels.

    5x5, 3x3 and 3x3 with batch norm and ReLU, 2x2 max-pool after the first two, mean over places.
    Initialised as torch does, so that a few lines of plain torch give the same net.
    """
    body = nn.Sequential(
        *_block(shape[0], 32, side=5),
        nn.MaxPool2d(2),
        *_block(32, 64),
        nn.MaxPool2d(2),
        *_block(64, 128),
        AveragePool(),
    )
    return Net(body, width=128, classes=classes)


def conv_he(shape: tuple[int, ...], classes: int) -> Net:
    """`conv` initialised after He et al. 2015; it memorises a little less (`fashion-10k-he`)."""
    return he_init(conv(shape, classes))


def conv_photo(shape: tuple[int, ...], classes: int) -> Net:
    """`conv` for images of 48 pixels and more: a first stride of 2 and one more block of 128.

    An image of 64 x 64 costs about twice what one of 28 x 28 costs with `conv`.
    """
    body = nn.Sequential(
        *_block(shape[0], 32, side=5, stride=2),
        nn.MaxPool2d(2),
        *_block(32, 64),
        nn.MaxPool2d(2),
        *_block(64, 128),
        nn.MaxPool2d(2),
        *_block(128, 128),
        AveragePool(),
    )
    return he_init(Net(body, width=128, classes=classes))


def _block(inputs: int, outputs: int, *, side: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    # ReLU in place: batch norm does not need its output again, and a step is 5 % faster for it.
    return (
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
