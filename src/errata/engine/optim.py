"""Optimizers and learning rates, as a stage spells them out."""

from __future__ import annotations

import math

import torch
from torch import nn

from errata.parts.base import OptimizerSpec

__all__ = ["learning_rate", "make_optimizer"]


def learning_rate(spec: OptimizerSpec, share: float) -> float:
    """Give the learning rate after a share (0 to 1) of the stage."""
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * share))
    if spec.schedule == "step":
        return spec.lr * spec.decay ** sum(share >= milestone for milestone in spec.milestones)
    return spec.lr


def make_optimizer(spec: OptimizerSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of one net and its loss."""
    if spec.kind == "adamw":
        return torch.optim.AdamW(parameters, spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.SGD(
        parameters,
        spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
    )
