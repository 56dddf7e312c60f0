"""Losses as matrices: what each class would cost each row. Importing this registers them all."""

from __future__ import annotations

from errata.losses.base import Loss, expected_loss, loss_named, loss_names, register_loss
from errata.losses.blended import (
    bootstrap_hard,
    bootstrap_soft,
    label_smoothing,
    ngce,
    truncated_gce,
)
from errata.losses.correction import (
    backward_loss,
    forward_loss,
    reweighted_loss,
    row_loss,
    soft_loss,
)
from errata.losses.layers import NoiseLayer, linear_layer, linear_layers, project_to_simplex
from errata.losses.layers_nonlinear import (
    nnaqc,
    nonlinear_layer,
    nonlinear_layers,
    quasi_clustering,
)
from errata.losses.layers_sample import LowRank
from errata.losses.margin import bounded, margins, ramp, savage, sigmoid, unhinged
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
from errata.losses.transition import dominant_rows, log_volume
from errata.losses.warp import expected_estimate, rank_costs, rank_error, warp, warp_sampled

__all__ = [
    "LOG_ZERO",
    "Loss",
    "LowRank",
    "NoiseLayer",
    "backward_loss",
    "bootstrap_hard",
    "bootstrap_soft",
    "bounded",
    "brier",
    "ce",
    "dominant_rows",
    "expected_estimate",
    "expected_loss",
    "forward_loss",
    "gce",
    "label_smoothing",
    "linear_layer",
    "linear_layers",
    "log_volume",
    "loss_named",
    "loss_names",
    "mae",
    "margins",
    "nce",
    "nce_mae",
    "nce_rce",
    "ngce",
    "nnaqc",
    "nonlinear_layer",
    "nonlinear_layers",
    "one_hot",
    "project_to_simplex",
    "quasi_clustering",
    "ramp",
    "rank_costs",
    "rank_error",
    "rce",
    "register_loss",
    "reweighted_loss",
    "row_loss",
    "savage",
    "sce",
    "sigmoid",
    "soft_loss",
    "truncated_gce",
    "unhinged",
    "warp",
    "warp_sampled",
]
