"""Every pure function of errata in one place, for people who write their own loop.

Nothing here keeps state: tensors go in, tensors come out, randomness comes in as a generator.

    import errata.functional as ef

    matrix = ef.gce(model(x), q=0.7)                               # [B, C], what each class costs
    ef.expected_loss(matrix, ef.one_hot(y, 10)).mean().backward()  # targets may be soft or mixed
"""

from __future__ import annotations

from errata.losses.base import expected_loss
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
from errata.methods.odd import loss_variance_of_head, odd_threshold, simulate_losses
from errata.methods.odd_features import (
    logit_scale,
    permuted_columns,
    plain_normals,
    rectified_normals,
    simulate_through,
)
from errata.observe.track import statistics_of
from errata.observe.trajectory import view_of
from errata.parts.dropping import above_threshold, percentile_of
from errata.parts.mixing import draw_mixup, mix_rows
from errata.phantoms import draw_phantoms

__all__ = [
    "LOG_ZERO",
    "above_threshold",
    "brier",
    "ce",
    "draw_mixup",
    "draw_phantoms",
    "expected_loss",
    "gce",
    "logit_scale",
    "loss_variance_of_head",
    "mae",
    "mix_rows",
    "nce",
    "nce_mae",
    "nce_rce",
    "odd_threshold",
    "one_hot",
    "percentile_of",
    "permuted_columns",
    "plain_normals",
    "rce",
    "rectified_normals",
    "sce",
    "simulate_losses",
    "simulate_through",
    "statistics_of",
    "view_of",
]
