"""What a search with threshold samples found, read from the ledger.

Shapes: N rows.
"""

from __future__ import annotations

from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import column, labelled, proposed_classes, rank_suspicion
from errata.ledger import Ledger

__all__: list[str] = []


@register_detector("threshold")
@final
class Threshold(Detector):
    """Rows that look no better than rows made wrong on purpose; among equals, the lower margin.

    Source: AUM with threshold samples (Pleiss et al. 2020, arXiv:2001.10528). The search needs
    trainings of its own, `errata.engine.threshold.search_by_threshold`;
    `errata.engine.threshold.write_threshold` puts what it found into the ledger.
    """

    reads = ("threshold_margin", "threshold_flag")

    def score(self, ledger: Ledger) -> Scores:
        """Rank flagged rows above the others, each by their margin."""
        self.check(ledger)
        flagged = column(ledger, "threshold_flag")
        margin = labelled(ledger, column(ledger, "threshold_margin"))
        order = (rank_suspicion(-margin) + flagged).round(9)
        return Scores(
            rank_suspicion(order),
            proposed_classes(ledger),
            lambda row: (
                f"margin {margin[row]:.1f} on average, "
                + ("like that of" if flagged[row] else "above that of")
                + " rows made wrong on purpose"
            ),
            "threshold",
            np.asarray(margin),
        )
