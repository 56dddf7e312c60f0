"""Every pure function of errata in one place, for people who write their own loop.

Nothing here keeps state: tensors go in, tensors come out, randomness comes in as a generator.

    import errata.functional as ef

    matrix = ef.gce(model(x), q=0.7)                               # [B, C], what each class costs
    ef.expected_loss(matrix, ef.one_hot(y, 10)).mean().backward()  # targets may be soft or mixed
"""

from __future__ import annotations

from errata.confidence import (
    adaptive_scores,
    conformal_threshold,
    fit_temperature,
    fit_uniform_noise,
    plain_scores,
    scale,
    selective_threshold,
    uniform_transition,
)
from errata.features.density import cosine_density, cosines, likeness_to_denser
from errata.features.neighbours import nearest
from errata.features.prototypes import class_scores, correct_labels, mean_prototypes
from errata.losses.base import expected_loss
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
from errata.losses.layers import linear_layer, linear_layers, project_to_simplex
from errata.losses.layers_nonlinear import (
    nnaqc,
    nonlinear_layer,
    nonlinear_layers,
    quasi_clustering,
)
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
from errata.parts.mixing import draw_box, draw_mixup, mix_rows, paste_rows
from errata.parts.penalties import (
    class_shares,
    draw_balanced,
    follow_mean,
    kl_to_prediction,
    mean_prediction,
    prediction_entropy,
    prior_cross_entropy,
    prior_divergence,
)
from errata.parts.prototypes import blend_targets
from errata.parts.relabel import (
    believe,
    mean_of_ring,
    moved_share,
    one_hot_share,
    predicted_probs,
)
from errata.phantoms import draw_phantoms
from errata.transition import (
    anchor_rows,
    estimate_by_anchors,
    estimate_by_counts,
    estimate_by_trusted,
    estimate_dual,
)

__all__ = [
    "LOG_ZERO",
    "above_threshold",
    "adaptive_scores",
    "anchor_rows",
    "backward_loss",
    "believe",
    "blend_targets",
    "bootstrap_hard",
    "bootstrap_soft",
    "bounded",
    "brier",
    "ce",
    "class_scores",
    "class_shares",
    "conformal_threshold",
    "correct_labels",
    "cosine_density",
    "cosines",
    "dominant_rows",
    "draw_balanced",
    "draw_box",
    "draw_mixup",
    "draw_phantoms",
    "estimate_by_anchors",
    "estimate_by_counts",
    "estimate_by_trusted",
    "estimate_dual",
    "expected_estimate",
    "expected_loss",
    "fit_temperature",
    "fit_uniform_noise",
    "follow_mean",
    "forward_loss",
    "gce",
    "kl_to_prediction",
    "label_smoothing",
    "likeness_to_denser",
    "linear_layer",
    "linear_layers",
    "log_volume",
    "logit_scale",
    "loss_variance_of_head",
    "mae",
    "margins",
    "mean_of_ring",
    "mean_prediction",
    "mean_prototypes",
    "mix_rows",
    "moved_share",
    "nce",
    "nce_mae",
    "nce_rce",
    "nearest",
    "ngce",
    "nnaqc",
    "nonlinear_layer",
    "nonlinear_layers",
    "odd_threshold",
    "one_hot",
    "one_hot_share",
    "paste_rows",
    "percentile_of",
    "permuted_columns",
    "plain_normals",
    "plain_scores",
    "predicted_probs",
    "prediction_entropy",
    "prior_cross_entropy",
    "prior_divergence",
    "project_to_simplex",
    "quasi_clustering",
    "ramp",
    "rank_costs",
    "rank_error",
    "rce",
    "rectified_normals",
    "reweighted_loss",
    "row_loss",
    "savage",
    "scale",
    "sce",
    "selective_threshold",
    "sigmoid",
    "simulate_losses",
    "simulate_through",
    "soft_loss",
    "statistics_of",
    "truncated_gce",
    "unhinged",
    "uniform_transition",
    "view_of",
    "warp",
    "warp_sampled",
]
