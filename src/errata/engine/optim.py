"""Optimizers and learning rates, as a stage spells them out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from errata.losses.base import Loss
from errata.parts.base import OptimizerSpec

__all__ = ["learning_rate", "make_optimizer", "set_learning_rate"]


def learning_rate(spec: OptimizerSpec, share: float) -> float:
    """Give the learning rate after a share (0 to 1) of the stage."""
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * share))
    if spec.schedule == "step":
        return spec.lr * spec.decay ** sum(share >= milestone for milestone in spec.milestones)
    return spec.lr


def make_optimizer(spec: OptimizerSpec, net: nn.Module, loss: Loss) -> torch.optim.Optimizer:
    """Make the optimizer of one net and its loss.

    What a loss learns is not decayed: a matrix of zeros is no neutral start for it.
    """
    groups: list[dict[str, Any]] = [{"params": list(net.parameters()), "scale": 1.0}]
    if learned := list(loss.parameters()):
        groups.append({"params": learned, "scale": loss.lr_scale, "weight_decay": 0.0})
    if spec.kind == "adamw":
        return torch.optim.AdamW(groups, spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        groups,
        spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the nets; what a loss learns follows by its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
