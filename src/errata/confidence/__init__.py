"""Confidence that is honest although the labels that it is fitted to are not."""

from errata.confidence.calibration import Calibration, fit_calibration
from errata.confidence.conformal import (
    adaptive_scores,
    conformal_curve,
    conformal_threshold,
    plain_scores,
    selective_curve,
    selective_threshold,
)
from errata.confidence.noise import NoiseFit, fit_class_noise, fit_noise
from errata.confidence.temperature import fit_temperature, fit_uniform_noise, scale
from errata.confidence.transitions import uniform_transition

__all__ = [
    "Calibration",
    "NoiseFit",
    "adaptive_scores",
    "conformal_curve",
    "conformal_threshold",
    "fit_calibration",
    "fit_class_noise",
    "fit_noise",
    "fit_temperature",
    "fit_uniform_noise",
    "plain_scores",
    "scale",
    "selective_curve",
    "selective_threshold",
    "uniform_transition",
]
