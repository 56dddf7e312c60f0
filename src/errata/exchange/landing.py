"""Answers from other tools land in the verdict journal, each of them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from errata.directory import AuditDirectory
from errata.exchange.answers import Answer, verdict_of
from errata.review.journal import Journal, Verdict
from errata.review.standing import open_journal

__all__ = ["Landed", "land", "land_all"]


class Landed(NamedTuple):
    """What came of a file of answers."""

    added: int
    """Verdicts that are new in the journal."""
    known: int
    """Answers that it had already."""
    empty: int
    """Cards that nobody has answered."""
    reviewers: tuple[str, ...]
    """Who answered, sorted."""


def land(audit: AuditDirectory, answers: Iterable[Answer], *, reviewer: str = "") -> Landed:
    """Check all answers, then write those that are new into the journal of the audit.

    Args:
        audit: The audit that the cards came from.
        answers: What a reader of a format gave.
        reviewer: Whose answers they are, where the tool does not tell.

    Raises:
        SourceError: An answer is none to a card of this audit; nothing was written then.
        OutputError: The journal cannot be written; what was written before stays, and the same
            file may be read again.
    """
    found = [verdict_of(answer, audit, reviewer=reviewer) for answer in answers]
    verdicts = [verdict for verdict in found if verdict is not None]
    added = 0
    if verdicts:
        with open_journal(audit) as journal:
            added = land_all(journal, verdicts)
    people = tuple(sorted({verdict.reviewer for verdict in verdicts}))
    return Landed(added, len(verdicts) - added, len(found) - len(verdicts), people)


def land_all(journal: Journal, verdicts: Iterable[Verdict]) -> int:
    """Write verdicts that `verdict_of` made, and count those that were new.

    An answer that was changed in the tool is a new verdict, also where it is changed back. One
    that was taken back here since, and is the same in the tool, stays taken back.
    """
    seen: Counter[str] = Counter()
    last: dict[str, str] = {}
    for verdict in journal.all():
        slot, content = _parts(verdict.uid)
        if slot:
            seen[f"{slot}.{content}"] += 1
            last[slot] = content
    added = 0
    for verdict in verdicts:
        slot, content = _parts(verdict.uid)
        times = seen[f"{slot}.{content}"]
        # With a time, each answer is another one; without, only the latest of its card counts.
        if times and (verdict.when or last[slot] == content):
            continue
        uid = f"{verdict.uid}.{times}" if times else verdict.uid
        added += journal.add(replace(verdict, uid=uid))
        seen[f"{slot}.{content}"] += 1
        last[slot] = content
    return added


def _parts(uid: str) -> tuple[str, str]:
    """Split what `verdict_of` made: which answer of the tool it is, and what it says."""
    parts = uid.split(".")
    return (parts[1], parts[2]) if len(parts) >= 3 and parts[0] == "import" else ("", "")
