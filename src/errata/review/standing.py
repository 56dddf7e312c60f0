"""What people have decided of an audit: the verdicts that stand, and how disagreement is settled.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from errata.directory import AuditDirectory
from errata.errors import OutputError
from errata.review.decision import Verdict
from errata.review.journal import FILE_NAME, Journal
from errata.review.verdicts import Ruling, rulings, verification

__all__ = ["Current", "open_journal", "settle", "standing"]

Current = Mapping[int, Mapping[str, Verdict]]


def open_journal(audit: AuditDirectory) -> Journal:
    """Open the verdict journal of an audit; it is made where there is none.

    Raises:
        OutputError: It cannot be used.
    """
    fingerprint = str(audit.settings.get("fingerprint", ""))
    return Journal(audit.path / FILE_NAME, audit=fingerprint)


def standing(audit: AuditDirectory) -> Current:
    """Read the verdicts that stand: by row, by reviewer; none where nobody has reviewed.

    Raises:
        OutputError: The journal cannot be used, or a verdict is on no row of this audit.
    """
    path = audit.path / FILE_NAME
    if not path.exists():
        return {}
    with open_journal(audit) as journal:
        current = journal.current()
    ids = audit.ledger.ids
    for row, by in current.items():
        for verdict in by.values():
            if row >= len(ids) or str(ids[row]) != verdict.id:
                raise OutputError(
                    f"a verdict in `{path}` is on row `{row}`, id `{verdict.id}`, which is no row "
                    "of this audit",
                    hint="the journal belongs to other data; open the audit it was made for",
                )
    return current


def settle(current: Current, given: np.ndarray, classes: Sequence[str]) -> dict[int, Ruling]:
    """Settle every row that somebody looked at.

    The choice with the most votes wins, and being unsure is no vote. To relabel a row as what it
    is given is to keep it. Where two choices have the most votes, but more people find the given
    label wrong than right, the row is dropped: nobody knows the right label, and the wrong one
    should not be trained on. All other rows stay undecided (``unsure``).

    Args:
        current: What `standing` gives.
        given: [N] class numbers; -1 is unlabelled.
        classes: Names of the classes.

    Raises:
        SettingsError: A verdict names no class of the audit, or is on no row of it.

    Example:
        >>> seen = Verdict("u1", 0, "a", "relabel", "cat", reviewer="ada")
        >>> settle({0: {"ada": seen}}, np.array([0]), ["cat", "dog"])[0].verdict
        'keep'
    """
    plain = {
        row: {who: _as_keep(verdict, given, classes) for who, verdict in by.items()}
        for row, by in current.items()
    }
    judged = verification(plain, len(given))
    found = rulings(plain, classes)
    for row, ruling in found.items():
        if ruling.verdict == "unsure" and judged[row] == 0:
            found[row] = Ruling("drop", None, ruling.reviewers, ruling.votes)
    return found


def _as_keep(verdict: Verdict, given: np.ndarray, classes: Sequence[str]) -> Verdict:
    if verdict.verdict != "relabel" or verdict.row >= len(given) or given[verdict.row] < 0:
        return verdict
    if verdict.label != classes[int(given[verdict.row])]:
        return verdict
    return replace(verdict, verdict="keep", label=None)
