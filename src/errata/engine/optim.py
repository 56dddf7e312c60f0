"""Optimizers and learning rates, as a stage spells them out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from errata.losses.base import Loss
from errata.parts.base import OptimizerSpec

__all__ = ["cyclical_rate", "learning_rate", "make_optimizer", "set_learning_rate"]


def cyclical_rate(
    epoch: int, *, highest: float = 0.01, lowest: float = 0.001, cycle: int = 10
) -> float:
    """Give the learning rate of O2U-Net in an epoch: a straight fall, again and again.

    Within a cycle it moves from under-fitting to over-fitting, so that a row is forgotten and
    learned many times; the detector ``o2u`` reads the losses. With t = (epoch mod cycle + 1) /
    cycle it is (1 - t) * highest + t * lowest.
    Source: O2U-Net (Huang et al. 2019), read in its repository.

    Args:
        epoch: From 0.
        highest: Rate that a cycle falls from; its first epoch is one step below.
        lowest: Rate of its last epoch.
        cycle: Epochs of a cycle.

    Example:
        >>> [round(cyclical_rate(epoch), 6) for epoch in (9, 10, 18)]
        [0.001, 0.0091, 0.0019]
    """
    share = (epoch % cycle + 1) / cycle
    return (1 - share) * highest + share * lowest


def learning_rate(spec: OptimizerSpec, share: float, *, epochs: int) -> float:
    """Give the learning rate after a share (0 to 1) of a stage of so many epochs."""
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * share))
    if spec.schedule == "cyclical":
        # A share is a quotient of steps, so that the start of an epoch may lie just below it.
        epoch = min(int(share * epochs + 1e-6), epochs - 1)
        lowest = spec.lr * spec.decay
        return cyclical_rate(epoch, highest=spec.lr, lowest=lowest, cycle=spec.cycle)
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
