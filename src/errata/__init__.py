"""Train on dirty labels, find the wrong ones, correct the few that matter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from errata import errors

if TYPE_CHECKING:
    from errata.api import audit
    from errata.applying import apply
    from errata.detect.score import find_label_errors
    from errata.estimator import NoisyLabelClassifier
    from errata.ledger import Ledger
    from errata.observe import Track

__version__ = "0.1.0"
__all__ = [
    "Ledger",
    "NoisyLabelClassifier",
    "Track",
    "__version__",
    "apply",
    "audit",
    "errors",
    "find_label_errors",
]

# Opened when first asked for: torch alone takes more than a second.
_LATER = {
    "apply": "errata.applying",
    "audit": "errata.api",
    "find_label_errors": "errata.detect.score",
    "Ledger": "errata.ledger",
    "NoisyLabelClassifier": "errata.estimator",
    "Track": "errata.observe",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module `errata` has no attribute `{name}`")
