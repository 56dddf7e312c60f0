"""What a card shows: the sample, the evidence against its label in words, and what to choose from.

On a blind card nothing may hint at the proposal: no reasons, no curve, no labels of neighbours, and
choices that depend on the given label alone.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from errata.record import SampleRecord
from errata.report import figures, words
from errata.report.columns import Columns

if TYPE_CHECKING:
    from errata.directory import AuditDirectory
    from errata.review.grid import Kind
    from errata.review.queue import Card

__all__ = ["Choice", "Examples", "Page", "choice_keys"]

MOST_KEYS = 10
"""Classes up to this number all have a digit of their own."""
_SHORTLIST = 9
_NEIGHBOURS = 8
_EXAMPLES = 4
_SCALED_BY = 60
# The policy of the page refuses styles inside tags; the size of the curve is the stylesheet's.
_INLINE_STYLE = re.compile(r' style="[^"]*"')


@dataclass(frozen=True)
class Choice:
    """A class that one key stands for."""

    key: str
    name: str


@dataclass(frozen=True)
class Examples:
    """Rows that are probably right, of one class."""

    name: str
    part: str
    """``given`` or ``proposed``."""
    images: tuple[str, ...]


def choice_keys(names: list[str]) -> list[Choice]:
    """Give each of at most ten classes a digit: its own where classes are called by digits.

    Example:
        >>> [choice.key for choice in choice_keys(["cat", "dog"])]
        ['1', '2']
        >>> [choice.key for choice in choice_keys(["0", "1", "7"])]
        ['0', '1', '7']
    """
    if all(len(name) == 1 and name in "0123456789" for name in names):
        return [Choice(name, name) for name in names]
    return [Choice(str((i + 1) % 10), name) for i, name in enumerate(names[:MOST_KEYS])]


class Page:
    """Puts cards together from what an audit says.

    Args:
        audit: What is reviewed.
    """

    def __init__(self, audit: AuditDirectory) -> None:
        self.audit = audit
        self.classes = list(audit.ledger.classes)
        self._names = frozenset(self.classes)
        # Row numbers mean other pictures in another audit, which the browser must not mix up.
        told = f"{audit.path.resolve()} {audit.settings.get('fingerprint', '')}"
        self._tag = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:8]
        self._examples: dict[int, tuple[int, ...]] = {}
        self._confused: dict[int, list[str]] = {}

    def prepare(self) -> None:
        """Do what takes long in a large audit, so that the first card does not wait for it."""
        # Reading a cached property is what fills it.
        _ = self._given, self._is_calm, self._top

    def image(self, row: int) -> str:
        """Give the address of the picture of a row."""
        return f"/image/{row}?audit={self._tag}"

    @property
    def names(self) -> frozenset[str]:
        """Names of all classes."""
        return self._names

    def as_json(self, card: Card, progress: dict[str, Any]) -> dict[str, Any]:
        """Give the object of ``GET /api/card``."""
        record, blind = self.audit.record(card.row), card.blind
        told = record.as_json()
        return {
            "row": record.row,
            "id": record.id,
            "given": record.given,
            "proposed": None if blind else record.proposed,
            "p_wrong": None if blind else told["p_wrong"],
            "tier": None if blind else record.tier,
            "reasons": None if blind else told["reasons"],
            "blind": blind,
            "neighbours": list(record.neighbours),
            "image": self.image(record.row),
            "progress": progress,
        }

    def view(self, card: Card) -> dict[str, Any]:
        """Give what the template of a card shows."""
        record, blind = self.audit.record(card.row), card.blind
        return {
            "record": record,
            "blind": blind,
            "proposed": None if blind else record.proposed,
            "p_wrong": None if blind or not math.isfinite(record.p_wrong) else record.p_wrong,
            "reasons": () if blind else record.reasons,
            "spark": "" if blind else self._spark(record),
            "image": self.image(record.row),
            "neighbours": self._neighbours(record, blind=blind),
            "examples": self._examples_for(record, blind=blind),
            "choices": self._choices(record, blind=blind),
        }

    def cell(self, row: int) -> dict[str, Any]:
        """Give what one row of a grid shows."""
        number = int(self.audit.ledger.given[row])
        return {
            "row": row,
            "id": str(self.audit.ledger.ids[row]),
            "image": self.image(row),
            "given": self.classes[number] if number >= 0 else None,
        }

    def kind(self, kind: Kind, *, is_here: bool) -> dict[str, Any]:
        """Give what a link to a kind of suspects shows."""
        return {
            "given": self.classes[kind.given],
            "proposed": self.classes[kind.proposed],
            "count": kind.count,
            "where": f"?given={kind.given}&proposed={kind.proposed}",
            "is_here": is_here,
        }

    def kind_grid(self, rows: list[int], given: int, proposed: int) -> dict[str, Any]:
        """Give what the template of a grid shows of suspects of one kind."""
        return {
            "cells": [self.cell(row) for row in rows],
            "given": self.classes[given],
            "proposed": self.classes[proposed],
            "labels": [Choice("p", self.classes[proposed])],
            "hidden": {"given": given, "proposed": proposed, "after": rows[-1]},
        }

    def near_grid(self, rows: list[int]) -> dict[str, Any]:
        """Give what it shows of near-duplicates, with the labels that one of them has."""
        records = [self.audit.record(row) for row in rows]
        found = [name for record in records for name in (record.given, record.proposed) if name]
        names = [name for name, _ in Counter(found).most_common(_SHORTLIST)]
        return {
            "cells": [self.cell(row) for row in rows],
            "given": None,
            "proposed": None,
            "labels": [Choice(str(place + 1), name) for place, name in enumerate(names)],
            "hidden": {},
        }

    def _choices(self, record: SampleRecord, *, blind: bool) -> list[Choice]:
        if len(self.classes) <= MOST_KEYS:
            return choice_keys(self.classes)
        first = [] if blind or record.proposed is None else [record.proposed]
        names = dict.fromkeys(first + self._often_confused(record.given))
        names.pop(record.given or "", None)
        return choice_keys(list(names)[:_SHORTLIST])

    def _often_confused(self, given: str | None) -> list[str]:
        """List the classes most often proposed for rows with this label, most often first."""
        if given is None:
            return []
        number = self.classes.index(given)
        if number not in self._confused:
            proposed = self.audit.issues.proposed
            here = (self._given == number) & (proposed >= 0)
            counts = np.bincount(proposed[here], minlength=len(self.classes))
            ranked = np.argsort(-counts, kind="stable")[: _SHORTLIST + 1]
            self._confused[number] = [self.classes[other] for other in ranked if counts[other]]
        return self._confused[number]

    def _neighbours(self, record: SampleRecord, *, blind: bool) -> list[dict[str, str]]:
        given = self.audit.ledger.given
        found = []
        for row in record.neighbours[:_NEIGHBOURS]:
            number = int(given[row])
            label = "" if blind else self.classes[number] if number >= 0 else "unlabelled"
            found.append({"image": self.image(row), "label": label})
        return found

    def _examples_for(self, record: SampleRecord, *, blind: bool) -> list[Examples]:
        wanted = [(record.given, "given"), (None if blind else record.proposed, "proposed")]
        found = [
            Examples(name, part, tuple(self.image(row) for row in rows))
            for name, part in wanted
            if name is not None
            and (rows := [row for row in self._example_rows(name) if row != record.row])
        ]
        return found

    def _example_rows(self, name: str) -> tuple[int, ...]:
        """Choose the least suspicious rows with a label, which show what the label means."""
        number = self.classes.index(name)
        if number not in self._examples:
            issues = self.audit.issues
            rows = issues.rows[self._is_calm & (self._given == number)][::-1][:_EXAMPLES]
            self._examples[number] = tuple(int(row) for row in rows)
        return self._examples[number]

    @functools.cached_property
    def _given(self) -> NDArray[np.int64]:
        """Given classes [N], worst row first, as the issues are."""
        given: NDArray[np.int64] = np.asarray(self.audit.ledger.given)[self.audit.issues.rows]
        return given

    @functools.cached_property
    def _is_calm(self) -> NDArray[np.bool_]:
        """Whether each row [N] is probably right, in the same order."""
        issues = self.audit.issues
        is_calm: NDArray[np.bool_] = ~issues.flagged & np.isfinite(issues.suspicion)
        return is_calm

    @functools.cached_property
    def _typical(self) -> list[float]:
        return Columns(self.audit).typical_curve

    @functools.cached_property
    def _top(self) -> float:
        losses = [loss for record in self.audit.worst(_SCALED_BY) for loss in record.curve]
        finite = [loss for loss in losses + self._typical if words.is_number(loss)]
        # A percentile, so that one spike does not flatten every curve.
        return max(float(np.percentile(finite, 99)), 1e-6) if finite else 1.0

    def _spark(self, record: SampleRecord) -> str:
        finite = [loss for loss in record.curve if words.is_number(loss)]
        if len(finite) < 2:
            return ""
        label = (
            f"Loss of the given label over {len(record.curve)} epochs, "
            f"from {finite[0]:.2g} to {finite[-1]:.2g} nats"
        )
        drawn = figures.sparkline(record.curve, self._typical, top=self._top, label=label)
        return _INLINE_STYLE.sub("", drawn)
