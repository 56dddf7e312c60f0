"""Confidence that is honest although the labels that it is fitted to are not."""

from errata.confidence.conformal import (
    adaptive_scores,
    conformal_threshold,
    plain_scores,
    selective_threshold,
)
from errata.confidence.temperature import fit_temperature, fit_uniform_noise, scale
from errata.confidence.transitions import uniform_transition

__all__ = [
    "adaptive_scores",
    "conformal_threshold",
    "fit_temperature",
    "fit_uniform_noise",
    "plain_scores",
    "scale",
    "selective_threshold",
    "uniform_transition",
]
