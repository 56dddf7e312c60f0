"""Finding wrong labels: detectors that order rows, how many are wrong, and what to flag."""

from __future__ import annotations

from errata.detect import cartography as _cartography  # noqa: F401 - importing registers them
from errata.detect import curves as _curves  # noqa: F401
from errata.detect import dynamics as _dynamics  # noqa: F401
from errata.detect import losses as _losses  # noqa: F401
from errata.detect import noise_model as _noise_model  # noqa: F401
from errata.detect import probe as _probe  # noqa: F401
from errata.detect import threshold_samples as _threshold_samples  # noqa: F401
from errata.detect import wrong_event as _wrong_event  # noqa: F401
from errata.detect.base import (
    Detector,
    Scores,
    detector_named,
    detector_names,
    register_detector,
)
from errata.detect.consensus import consensus, default_detectors
from errata.detect.decide import Findings, decide
from errata.detect.rate import RateEstimate, estimate_rate

__all__ = [
    "Detector",
    "Findings",
    "RateEstimate",
    "Scores",
    "consensus",
    "decide",
    "default_detectors",
    "detector_named",
    "detector_names",
    "estimate_rate",
    "register_detector",
]
