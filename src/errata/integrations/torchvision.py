"""Models of torchvision; the one module of errata that imports it."""

from __future__ import annotations

from torch import Tensor, nn

from errata.errors import SettingsError, unknown_name

__all__ = ["GreyAsColour", "torchvision_model"]


class GreyAsColour(nn.Module):
    """Shows images of one channel to a net that wants three."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits of the net for images [B, 1, H, W]."""
        logits: Tensor = self.net(images.expand(-1, 3, -1, -1))
        return logits


def torchvision_model(name: str, channels: int, classes: int) -> nn.Module:
    """Build a classifier of torchvision with fresh weights.

    Raises:
        SettingsError: torchvision is missing, the name is unknown, or images have neither one
            channel nor three.
    """
    try:
        from torchvision import models
    except ImportError:
        raise SettingsError(
            f"model `torchvision:{name}` needs torchvision, which is not installed",
            hint="run `pip install torchvision`, or choose another model",
        ) from None
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision model", name, known)
    if channels not in (1, 3):
        raise SettingsError(
            f"model `torchvision:{name}` got images of `{channels}` channels; allowed: 1 or 3",
            hint="choose a model of errata, these take any number",
        )
    net: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return GreyAsColour(net) if channels == 1 else net
