"""Models by name, each a body with a linear head; none of them needs torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from errata.errors import SettingsError, unknown_name
from errata.models.conv import conv, conv_he, conv_photo
from errata.models.find import find_head
from errata.models.mlp import Net, mlp
from errata.models.resnet import resnet18, wrn

__all__ = ["Net", "build_model", "default_model", "find_head", "model_names"]

Build = Callable[[tuple[int, ...], int], Net]


def _wrn_28_10(shape: tuple[int, ...], classes: int) -> Net:
    return wrn(shape, classes, depth=28, width=10)


# Name, builder and the fewest pixels a side may have (0: vectors as well).
_MODELS: dict[str, tuple[Build, int]] = {
    "mlp": (mlp, 0),
    "conv": (conv, 8),
    "conv-he": (conv_he, 8),
    "conv-photo": (conv_photo, 16),
    "resnet18": (resnet18, 8),
    "wrn-28-10": (_wrn_28_10, 8),
}
_PHOTO = 48


def model_names() -> tuple[str, ...]:
    """List the models of this package; ``wrn-DEPTH-WIDTH`` takes other numbers as well."""
    return tuple(_MODELS)


def default_model(shape: tuple[int, ...]) -> str:
    """Choose a model that trains in minutes on a processor, by the shape of one sample.

    Vectors and images below 8 pixels get ``mlp``, images below 48 pixels ``conv``, larger ones
    ``conv-photo``.

    Example:
        >>> default_model((64,)), default_model((1, 28, 28)), default_model((3, 64, 64))
        ('mlp', 'conv', 'conv-photo')
    """
    side = _side(shape)
    if side < _MODELS["conv"][1]:
        return "mlp"
    return "conv" if side < _PHOTO else "conv-photo"


def build_model(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build a model with fresh weights, from the global generator as torch does.

    Args:
        name: One of `model_names`, ``wrn-DEPTH-WIDTH``, ``timm:NAME`` or ``torchvision:NAME``.
        shape: One sample: (channels, height, width), or (width,) for vectors.
        classes: Number of logits.

    Raises:
        SettingsError: The name is unknown, its package is not installed, or the model does not
            fit the shape.

    Example:
        >>> build_model("conv", (1, 28, 28), 10).head
        Linear(in_features=128, out_features=10, bias=True)
    """
    library, _, inner = name.partition(":")
    if library in ("timm", "torchvision") and inner:
        _check_side(name, shape, least=1)
        return _outside(library, inner, shape, classes)
    wide = re.fullmatch(r"wrn-(\d{1,4})-(\d{1,4})", name)
    if wide:
        _check_side(name, shape, least=8)
        return wrn(shape, classes, depth=int(wide[1]), width=int(wide[2]))
    if name not in _MODELS:
        also = ("wrn-DEPTH-WIDTH", "timm:NAME", "torchvision:NAME")
        raise unknown_name("model", name, (*_MODELS, *also))
    build, least = _MODELS[name]
    _check_side(name, shape, least=least)
    return build(shape, classes)


def _outside(library: str, name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    if library == "torchvision":
        from errata.integrations.torchvision import torchvision_model

        return torchvision_model(name, shape[0], classes)
    from errata.integrations.timm import timm_model

    return timm_model(name, shape[0], classes)


def _side(shape: tuple[int, ...]) -> int:
    """Give the shorter side in pixels; 0 for vectors."""
    return min(shape[1:]) if len(shape) == 3 else 0


def _check_side(name: str, shape: tuple[int, ...], *, least: int) -> None:
    if _side(shape) >= least:
        return
    have = "x".join(map(str, shape))
    raise SettingsError(
        f"model `{name}` does not fit samples of shape `{have}`; allowed: images (channels, "
        f"height, width) with sides of at least {least} pixels",
        hint=f"use `{default_model(shape)}`, or leave the model out",
    )
