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

__all__ = [
    "LOG_ZERO",
    "brier",
    "ce",
    "expected_loss",
    "gce",
    "mae",
    "nce",
    "nce_mae",
    "nce_rce",
    "one_hot",
    "rce",
    "sce",
]
