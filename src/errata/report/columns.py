"""The arrays of an audit that several sections of the report read. Shapes: N rows."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from errata.directory import AuditDirectory

__all__ = ["Columns"]

_SAMPLE = 2000


class Columns:
    """The arrays [N] of an audit in row order, made once and read by the sections."""

    def __init__(self, audit: AuditDirectory) -> None:
        self.audit = audit
        self.classes = audit.ledger.classes
        self.given: np.ndarray = np.asarray(audit.ledger.given)
        places = audit.issues.places
        self.flagged: np.ndarray = audit.issues.flagged[places]
        self.proposed: np.ndarray = audit.issues.proposed[places]
        self.tier: np.ndarray = audit.issues.tier[places]
        self.labelled: np.ndarray = self.given >= 0

    @functools.cached_property
    def dropped(self) -> np.ndarray:
        """[N] bool: rows that the recipe removed from training."""
        if not self.audit.ledger.has("dropped"):
            return np.zeros(len(self.given), dtype=bool)
        return self.audit.ledger.read("dropped").numpy().astype(bool)

    def mean(self, total: str) -> np.ndarray | None:
        """Average a summed column over the times each row was seen; NaN where never."""
        ledger = self.audit.ledger
        if not (ledger.has(total) and ledger.has("times_seen")):
            return None
        seen = ledger.read("times_seen").numpy().astype(np.float64)
        sums = ledger.read(total).numpy().astype(np.float64)
        means: np.ndarray = np.divide(sums, seen, out=np.full(len(sums), math.nan), where=seen > 0)
        return means

    @functools.cached_property
    def typical_curve(self) -> list[float]:
        """Median loss per epoch of unflagged rows; of 2,000 of them where there are more."""
        ledger = self.audit.ledger
        rows = np.flatnonzero(self.labelled & ~self.flagged & ~self.dropped)
        if not ledger.has("loss_curve") or not len(rows):
            return []
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]
        curves = ledger.read("loss_curve", torch.from_numpy(rows)).double().numpy()
        whole_curves = curves[:, ~np.isnan(curves).all(axis=0)]
        return [float(value) for value in np.nanmedian(whole_curves, axis=0)]
