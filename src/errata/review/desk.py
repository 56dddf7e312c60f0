"""The desk of one reviewer: which card lies on it, what was decided, how far the work has come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from errata.review.answers import Answer, Batch, RefusedError
from errata.review.batches import add_all
from errata.review.estimate import agreement, errors_left, may_stop
from errata.review.journal import Verdict
from errata.review.queue import Card

if TYPE_CHECKING:
    from errata.directory import AuditDirectory

__all__ = ["Desk", "JournalLike", "QueueLike"]

Current = Mapping[int, Mapping[str, Verdict]]
STOP_AT = 0.01
"""Share of wrong labels among all rows at which a review may stop."""


class JournalLike(Protocol):
    """What is asked of `errata.review.journal.Journal`."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def audit(self) -> str:
        """What tells its audit from others."""
        ...

    def add(self, verdict: Verdict) -> bool:
        """Store a verdict; it is on disk when this returns."""
        ...

    def all(self) -> list[Verdict]:
        """Give all verdicts in order."""
        ...

    def current(self) -> dict[int, dict[str, Verdict]]:
        """Give the verdicts that stand: by row, by reviewer."""
        ...


class QueueLike(Protocol):
    """What is asked of `errata.review.queue.Queue`."""

    def next(self, current: Current) -> Card | None:
        """Choose the next card; None where there is none."""
        ...


class Desk:
    """Hands out cards and takes verdicts, for one reviewer of one audit.

    Args:
        audit: What is reviewed.
        journal: Where verdicts go.
        queue: Where cards come from.
        reviewer: Name of the person.
        budget: Cards after which the review ends; None is no limit.
    """

    def __init__(
        self,
        audit: AuditDirectory,
        journal: JournalLike,
        queue: QueueLike,
        *,
        reviewer: str = "",
        budget: int | None = None,
    ) -> None:
        self.audit = audit
        self.reviewer = reviewer
        self.budget = budget
        self._journal = journal
        self._queue = queue
        self._shown: dict[int, Card] = {}
        self._has_recalled = False
        self._last_left: dict[str, float] | None = None
        self.may_stop = False
        mine = [verdict for verdict in journal.all() if verdict.reviewer == reviewer]
        self._seconds = sum(verdict.seconds or 0.0 for verdict in mine)
        self._known = {verdict.uid: verdict for verdict in mine}
        self._last_of = {verdict.row: verdict for verdict in mine}
        self._trail = _trail(mine)
        self._flagged = audit.issues.flagged[audit.issues.places]
        self._suspicion = audit.issues.suspicion[audit.issues.places]

    def next_card(self) -> Card | None:
        """Lay the next card on the desk; the same one until there is a verdict on it."""
        card = self._queue.next(self._journal.current())
        if card is not None:
            self._shown[card.row] = card
        return card

    @property
    def first_card(self) -> Card | None:
        """Look at the next card without laying it on the desk."""
        return self._queue.next(self._journal.current())

    def upcoming(self, row: int) -> int | None:
        """Guess the row after this one, so that its picture can be fetched while a person looks."""
        current = self._journal.current()
        guess = Verdict("", row, "", "unsure", reviewer=self.reviewer)
        card = self._queue.next({**current, row: {**current.get(row, {}), self.reviewer: guess}})
        return None if card is None or card.row == row else card.row

    def card_again(self, row: int) -> Card | None:
        """Lay a card on the desk again that this reviewer has judged; None where there is none."""
        before = self._last_of.get(row)
        if before is None:
            return None
        card = Card(row=row, blind=before.blind, control=before.control, stratum="again")
        self._shown[row] = card
        return card

    @property
    def last_row(self) -> int | None:
        """The row of the last verdict that was not taken back."""
        return self._trail[-1] if self._trail else None

    def standing(self, row: int) -> Verdict | None:
        """Give the verdict of this reviewer that stands on a row."""
        return self._journal.current().get(row, {}).get(self.reviewer)

    @property
    def last_rows(self) -> list[int]:
        """The rows that were judged with the last action, one or many."""
        if not self._trail:
            return []
        batch = self._last_of[self._trail[-1]].uid.rpartition(":")[0]
        found: list[int] = []
        for row in reversed(self._trail):
            if found and self._last_of[row].uid != f"{batch}:{row}":
                break
            found.append(row)
        return found[::-1]

    def record(self, answer: Answer) -> None:
        """Write a verdict; it is on disk when this returns, and a repeated one counts once.

        Raises:
            RefusedError: Another verdict had the same id (400).
            OutputError: The journal cannot be written.
        """
        if self._is_known(answer):
            return
        verdict = self._verdict(answer, self._card_of(answer.row))
        self._note(verdict, is_new=self._journal.add(verdict))

    def record_all(self, batch: Batch) -> None:
        """Write a verdict for each row, all or none; they are on disk when this returns.

        Raises:
            RefusedError: Another verdict had the same id (400).
            OutputError: The journal cannot be written.
        """
        # Rows of a batch were seen with their proposals, and somebody chose them.
        answers = [answer for answer in self._answers(batch) if not self._is_known(answer)]
        verdicts = [
            self._verdict(answer, Card(answer.row, blind=False, control=False, stratum="grid"))
            for answer in answers
        ]
        if verdicts:
            add_all(self._journal.path, verdicts, audit=self._journal.audit)
        for verdict in verdicts:
            self._note(verdict, is_new=True)

    def room(self, most: int) -> int:
        """Tell how many rows may be judged at once, so that the budget holds; at most `most`."""
        return most if self.budget is None else max(min(most, self.budget - self._count()), 0)

    def judged(self) -> list[int]:
        """List the rows that somebody has judged."""
        return list(self._journal.current())

    def _count(self) -> int:
        return sum(self.reviewer in verdicts for verdicts in self._journal.current().values())

    def _answers(self, batch: Batch) -> list[Answer]:
        """Spell a batch out: a row that has the label already is kept."""
        seconds = None if batch.seconds is None else batch.seconds / len(batch.rows)
        ledger, found = self.audit.ledger, []
        for row in batch.rows:
            given = int(ledger.given[row])
            keeps = given >= 0 and batch.label == ledger.classes[given]
            verdict, label = ("keep", None) if keeps else (batch.verdict, batch.label)
            found.append(Answer(batch.uid_of(row), row, verdict, label, seconds))
        return found

    def _is_known(self, answer: Answer) -> bool:
        known = self._known.get(answer.uid)
        if known is None:
            return False
        told = (answer.row, answer.verdict, answer.label)
        if (known.row, known.verdict, known.label) != told:
            raise RefusedError(400, f"`uid` `{answer.uid}` was another verdict's; draw a new one")
        return True

    def _verdict(self, answer: Answer, card: Card) -> Verdict:
        record = self.audit.record(answer.row)
        return Verdict(
            uid=answer.uid,
            row=answer.row,
            id=record.id,
            verdict=answer.verdict,
            label=answer.label,
            seconds=answer.seconds,
            reviewer=self.reviewer,
            blind=card.blind,
            control=card.control,
            proposed=None if card.blind else record.proposed,
        )

    def _note(self, verdict: Verdict, *, is_new: bool) -> None:
        if is_new:
            self._seconds += verdict.seconds or 0.0
            _follow(self._trail, verdict)
        self._known[verdict.uid] = verdict
        self._last_of[verdict.row] = verdict

    def progress(self) -> dict[str, Any]:
        """Tell how far the work has come: cards, budget, minutes, errors left."""
        current = self._journal.current()
        self._last_left = self._left(current)
        return self._progress(current)

    def progress_so_far(self) -> dict[str, Any]:
        """Tell the same with the errors left as they were last estimated, which takes no time."""
        return self._progress(self._journal.current())

    @property
    def controls(self) -> int:
        """How many random cards were judged; without one nothing is known of the rest."""
        current = self._journal.current()
        return sum(any(verdict.control for verdict in by.values()) for by in current.values())

    def _progress(self, current: Current) -> dict[str, Any]:
        return {
            "shown": sum(self.reviewer in verdicts for verdicts in current.values()),
            "budget": self.budget,
            "minutes": round(self._seconds / 60, 2),
            "errors_left": self._last_left,
        }

    def summary(self) -> dict[str, Any]:
        """Give what `errata review` prints at the end."""
        current = self._journal.current()
        mine = [by[self.reviewer] for by in current.values() if self.reviewer in by]
        return {
            "shown": len(set(self._shown) | {verdict.row for verdict in mine}),
            "verdicts": len(mine),
            "changed": sum(self._finds_wrong(verdict) for verdict in mine),
            "errors_left": self._left(current),
            "agreement": agreement(current),
        }

    def _left(self, current: Current) -> dict[str, float] | None:
        rows, wrong, control = self._decided(current)
        if not rows:
            return None
        left = errors_left(
            self._flagged,
            np.array(rows, dtype=np.int64),
            np.array(wrong, dtype=bool),
            np.array(control, dtype=bool),
            suspicion=self._suspicion,
        )
        self.may_stop = may_stop(left, len(self._flagged), STOP_AT)
        if not any(control) and left.high:
            # Without random cards nothing is known of the rest.
            return None
        return {
            "estimate": float(left.estimate),
            "low": float(left.low),
            "high": float(left.high),
        }

    def _card_of(self, row: int) -> Card:
        """Recall how a row was shown, also by a server that was restarted since."""
        if not self._has_recalled:
            # The card that was on the desk when the server before this one ended.
            self._has_recalled = True
            self.next_card()
        if row in self._shown:
            return self._shown[row]
        # A row that somebody chose is no random draw, so it must not count as a control.
        return self.card_again(row) or Card(row=row, blind=False, control=False, stratum="chosen")

    def _decided(self, current: Current) -> tuple[list[int], list[bool], list[bool]]:
        """List rows that somebody decided, whether most found the label wrong, and the controls."""
        rows, wrong, control = [], [], []
        for row, by in current.items():
            votes = [self._finds_wrong(v) for v in by.values() if v.verdict != "unsure"]
            if votes:
                rows.append(row)
                wrong.append(2 * sum(votes) >= len(votes))
                control.append(any(v.control for v in by.values()))
        return rows, wrong, control

    def _finds_wrong(self, verdict: Verdict) -> bool:
        # A script may relabel a row as what it is, which keeps the label.
        given = int(self.audit.ledger.given[verdict.row])
        same = given >= 0 and verdict.label == self.audit.ledger.classes[given]
        return verdict.verdict == "drop" or (verdict.verdict == "relabel" and not same)


def _trail(verdicts: list[Verdict]) -> list[int]:
    trail: list[int] = []
    for verdict in verdicts:
        _follow(trail, verdict)
    return trail


def _follow(trail: list[int], verdict: Verdict) -> None:
    """Keep the rows in the order of their last standing verdict."""
    if verdict.verdict != "undo":
        trail.append(verdict.row)
    elif verdict.row in trail:
        del trail[len(trail) - 1 - trail[::-1].index(verdict.row)]
