"""Detectors order rows by how suspicious their label is.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from errata.errors import LedgerError, unknown_name
from errata.ledger import Ledger

__all__ = ["Detector", "Scores", "detector_named", "detector_names", "register_detector"]


@dataclass(frozen=True)
class Scores:
    """What a detector says of every row.

    Attributes:
        suspicion: [N] float64 in 0 to 1, higher = more likely wrong; NaN where the row has no
            label or was never seen.
        proposed: [N] int64 class that would fit better, -1 for none.
        kind: What was looked at, one lower-case word such as ``margin``, for the reasons.
        values: [N] the number behind the suspicion, in the unit of its kind; None where there is
            none.
    """

    suspicion: np.ndarray
    proposed: np.ndarray
    words: Callable[[int], str]
    """Reason for one row, in words; called for the rows that people will look at."""
    kind: str = ""
    values: np.ndarray | None = None


class Detector:
    """Reads ledger columns and scores rows; `reads` are the columns it needs."""

    name: str = ""
    reads: tuple[str, ...] = ()

    def fits(self, ledger: Ledger) -> bool:
        """Tell whether the ledger has the columns this detector needs."""
        return all(ledger.has(name) for name in self.reads)

    def score(self, ledger: Ledger) -> Scores:
        """Score every row of the ledger.

        Raises:
            LedgerError: A column is missing.
        """
        raise NotImplementedError

    def check(self, ledger: Ledger) -> None:
        """Refuse a ledger that lacks what the detector reads.

        Raises:
            LedgerError: A column is missing.
        """
        if self.fits(ledger):
            return
        missing = [name for name in self.reads if not ledger.has(name)]
        raise LedgerError(
            f"detector `{self.name}` needs the columns `{', '.join(self.reads)}`; the ledger "
            f"lacks `{', '.join(missing)}`",
            hint="train with the observer `Track`, or leave this detector out",
        )


D = TypeVar("D", bound=type[Detector])
_DETECTORS: dict[str, type[Detector]] = {}


def register_detector(name: str) -> Callable[[D], D]:
    """Make a detector known by name, to the audit and to the contract battery."""

    def add(detector: D) -> D:
        assert name not in _DETECTORS, f"detector {name} is registered twice"
        detector.name = name
        _DETECTORS[name] = detector
        return detector

    return add


def detector_names() -> tuple[str, ...]:
    """List the registered detectors."""
    return tuple(sorted(_DETECTORS))


def detector_named(name: str) -> Detector:
    """Build a registered detector.

    Raises:
        SettingsError: No detector has this name.
    """
    if name not in _DETECTORS:
        raise unknown_name("detector", name, _DETECTORS)
    return _DETECTORS[name]()
