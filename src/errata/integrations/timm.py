"""Models of timm (pytorch-image-models)."""

from __future__ import annotations

from torch import nn

from errata.errors import SettingsError, unknown_name

__all__ = ["timm_model"]


def timm_model(name: str, channels: int, classes: int) -> nn.Module:
    """Build a classifier of timm with fresh weights, for any number of channels.

    Raises:
        SettingsError: timm is missing or the name is unknown.
    """
    try:
        import timm
    except ImportError:
        raise SettingsError(
            f"model `timm:{name}` needs timm, which is not installed",
            hint="run `pip install timm`, or choose another model",
        ) from None
    if not timm.is_model(name):
        raise unknown_name("timm model", name, timm.list_models())
    net: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=classes, in_chans=channels
    )
    return net
