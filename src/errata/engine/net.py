"""Any module as a net: logits, the features that enter its head, and its head.

Shapes: B batch, C classes, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from errata.errors import ErrataError, SettingsError
from errata.models import find_head

__all__ = ["Net", "call_net", "evaluating", "frozen_statistics"]


class Net(nn.Module):
    """Wraps a module so that one call gives logits [B, C] and features [B, D].

    Features are what enters the head. A module without a linear head trains as well; its features
    are None, and parts that need a head say so.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self._entered: list[Tensor] = []
        with suppress(ErrataError):
            self.find_head().register_forward_pre_hook(self._remember)

    def find_head(self) -> nn.Linear:
        """Give the last linear layer.

        Raises:
            ErrataError: The module has none that could be found.
        """
        return find_head(self.body)

    def _remember(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._entered[:] = [inputs[0]]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give logits [B, C] and features [B, D] of images [B, ...]."""
        logits = self.body(images)
        features = self._entered.pop() if self._entered else None
        return logits, features


def call_net(net: Net, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give what the net gives for images [B, ...].

    Raises:
        SettingsError: The net cannot take a batch of one row.
    """
    try:
        logits, features = net(images)
    except ValueError as error:
        if len(images) > 1:
            raise
        raise SettingsError(
            f"the net cannot train on a batch of 1 row ({str(error).lower()}); allowed: at least "
            "2 rows for every process",
            hint="choose a larger batch, or give more labelled rows",
        ) from error
    return logits, features


@contextmanager
def evaluating(net: Net) -> Iterator[Net]:
    """Switch a net to evaluation mode, and every module back to the mode it was in."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Let batch norm use the statistics of the batch and leave its running ones alone."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        with torch.no_grad():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
