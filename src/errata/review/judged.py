"""What people found of some rows, and what it says about all others.

Shapes: N rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from errata.directory import AuditDirectory
from errata.issues import Issues
from errata.review.recalibration import recalibrate
from errata.review.standing import settle, standing

__all__ = ["judged_issues", "tiers_of"]

OBVIOUS = 0.95


def tiers_of(
    p_wrong: NDArray[np.float64], flagged: NDArray[np.bool_], *, obvious: float = OBVIOUS
) -> NDArray[np.str_]:
    """Sort rows [N] into ``obvious``, ``possible`` and ``fine``.

    Args:
        p_wrong: [N]; NaN is not obvious.
        flagged: [N]; other rows are ``fine``.
        obvious: Flagged rows with a higher `p_wrong` are obvious.

    Example:
        >>> p, flagged = np.array([0.99, 0.6, 0.99]), np.array([True, True, False])
        >>> tiers_of(p, flagged).tolist()
        ['obvious', 'possible', 'fine']
    """
    above = np.nan_to_num(p_wrong) > obvious
    return np.where(flagged, np.where(above, "obvious", "possible"), "fine")


def judged_issues(audit: AuditDirectory) -> Issues:
    """Bring the issues of an audit in line with the verdicts that stand.

    Probabilities of rows that nobody decided are recalibrated, which keeps their order; a decided
    row is wrong with probability 0 or 1. Tiers follow from that. `suspicion`, the flags, the
    proposals and the file on disk stay as they are.

    Raises:
        OutputError: The journal cannot be used.
    """
    issues = audit.issues
    given = np.asarray(audit.ledger.given)
    decided = {
        row: ruling.verdict in ("relabel", "drop")
        for row, ruling in settle(standing(audit), given, audit.ledger.classes).items()
        if ruling.verdict != "unsure"
    }
    if not decided:
        return issues
    rows = np.array(list(decided), dtype=np.int64)
    wrong = np.array(list(decided.values()), dtype=bool)
    here = issues.places[rows]
    p_wrong = recalibrate(issues.p_wrong, here, wrong)
    # A proposal is right only where the given label is wrong, so that both move together.
    moved = p_wrong / np.where(issues.p_wrong > 0, issues.p_wrong, 1.0)
    labelled = given[issues.rows] >= 0
    p_proposed = np.where(labelled, np.clip(issues.p_proposed * moved, 0, 1), issues.p_proposed)
    p_wrong[here] = wrong
    level = float(audit.settings.get("obvious", OBVIOUS))
    tier = tiers_of(p_wrong, issues.flagged, obvious=level)
    return replace(issues, p_wrong=p_wrong, p_proposed=p_proposed, tier=tier)
