"""Losses as matrices: what each class would cost each row. Importing this registers them all."""

from __future__ import annotations

from errata.losses.base import Loss, expected_loss, loss_named, loss_names, register_loss
from errata.losses.pointwise import (
    LOG_ZERO,
    brier,
    ce,
    gce,
    mae,
    nce,
    nce_mae,
    nce_rce,
    one_hot,
    rce,
    sce,
)

__all__ = [
    "LOG_ZERO",
    "Loss",
    "brier",
    "ce",
    "expected_loss",
    "gce",
    "loss_named",
    "loss_names",
    "mae",
    "nce",
    "nce_mae",
    "nce_rce",
    "one_hot",
    "rce",
    "register_loss",
    "sce",
]
