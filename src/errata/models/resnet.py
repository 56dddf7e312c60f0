"""Pre-activation residual nets for small images, narrow (ResNet-18) and wide (WRN).

Sources: He et al. 2016, arXiv:1603.05027 (pre-activation); Zagoruyko and Komodakis 2016,
arXiv:1605.07146 (WRN, here without dropout). Both follow the authors in one detail that copies
often miss: the last block is followed by batch norm and ReLU.

Shapes: B batch, D and E channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from errata.errors import SettingsError
from errata.models.conv import AveragePool
from errata.models.mlp import Net, he_init

__all__ = ["PreActBlock", "resnet18", "wrn"]


class PreActBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to the input.

    Where channels or stride change, the input is the activated one through a 1x1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, maps: Float[Tensor, "B D H W"]) -> Float[Tensor, "B E h w"]:
        """Give the maps of the next block."""
        active = relu(self.norm1(maps))
        straight = maps if self.shortcut is None else self.shortcut(active)
        changed: Tensor = self.conv2(relu(self.norm2(self.conv1(active))))
        return changed + straight


def resnet18(shape: tuple[int, ...], classes: int) -> Net:
    """Pre-activation ResNet-18 with a 3x3 stem, for images of about 32 pixels; 11.2 M weights."""
    return _residual(shape[0], classes, stem=64, widths=(64, 128, 256, 512), blocks=2)


def wrn(shape: tuple[int, ...], classes: int, *, depth: int, width: int) -> Net:
    """Wide residual net WRN-`depth`-`width`; 28-10 has 36.5 M weights.

    Raises:
        SettingsError: The depth is not 6 n + 4 with n of at least 1, or the width is 0.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1 or width < 1:
        raise SettingsError(
            f"model `wrn-{depth}-{width}` cannot be built; allowed: a depth of 10, 16, 22, 28, "
            "... (6 n + 4) and a width from 1",
            hint="write for example `wrn-28-10` or `wrn-16-4`",
        )
    widths = (16 * width, 32 * width, 64 * width)
    return _residual(shape[0], classes, stem=16, widths=widths, blocks=blocks)


def _residual(channels: int, classes: int, *, stem: int, widths: Sequence[int], blocks: int) -> Net:
    body = nn.Sequential(nn.Conv2d(channels, stem, 3, padding=1, bias=False))
    inputs = stem
    for stage, outputs in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            body.append(PreActBlock(inputs, outputs, stride=stride))
            inputs = outputs
    body.extend((nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), AveragePool()))
    return he_init(Net(body, width=inputs, classes=classes))
