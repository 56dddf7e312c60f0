"""Which row a reviewer sees next.

Most cards are suspects, worst first, where verdicts so far correct the probabilities, of all rows
and of those with the same two classes. Some come from
other places on purpose: the worst of each class, rows near the boundary, confusing pairs; random
controls, which tell how many errors are left; and rows that somebody else has judged, which tell
how far people agree. What comes next is a function of the seed, the reviewer and the verdicts
that stand, so a server that was restarted goes on with the same card.

Shapes: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from errata.errors import SettingsError
from errata.review.recalibration import Recalibration
from errata.streams import seed_of

if TYPE_CHECKING:
    from errata.directory import AuditDirectory
    from errata.review.journal import Verdict

__all__ = ["Card", "Queue", "columns_of"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Current = Mapping[int, Mapping[str, "Verdict"]]

_TURNS = ("worst",) * 6 + ("class",) * 2 + ("boundary", "pair")
_LOOKED_AT = 5000
"""Suspects among which the next is chosen; those behind them wait their turn."""


@dataclass(frozen=True)
class Card:
    """One row to judge.

    Attributes:
        row: Its number.
        blind: The proposal is hidden.
        control: It was drawn at random.
        stratum: Where it comes from: ``worst``, ``class``, ``boundary``, ``pair``, ``control``
            or ``overlap``.
    """

    row: int
    blind: bool
    control: bool
    stratum: str


class Queue:
    """Chooses cards for one reviewer.

    Args:
        suspicion: [N]; rows with NaN are never shown as suspects.
        p_wrong: [N], NaN where `suspicion` is.
        flagged: [N].
        given: [N] classes, -1 for none.
        proposed: [N] classes, -1 for none.
        seed: Of the controls, and of which cards are blind.
        controls: Share of cards that are random rows, 0 to 1.
        blind: Share of cards without the proposal, 0 to 1.
        budget: Cards after which there is none; None is no limit.
        reviewer: Name of the person.
        near: [N] numbers of groups of near-duplicates, which may still be found meanwhile; one
            card settles a group.
        overlap: Share of cards that another reviewer has judged, 0 to 1.

    Raises:
        SettingsError: A share is out of range, or the budget is negative.
    """

    def __init__(
        self,
        suspicion: Floats,
        p_wrong: Floats,
        flagged: Bools,
        given: Ints,
        proposed: Ints,
        *,
        seed: int = 0,
        controls: float = 0.1,
        blind: float = 0.2,
        budget: int | None = None,
        reviewer: str = "",
        near: Ints | None = None,
        overlap: float = 0.1,
    ) -> None:
        for name, share in (("controls", controls), ("blind", blind), ("overlap", overlap)):
            if not 0 <= share <= 1:
                raise SettingsError(
                    f"{name} `{share}` is out of range; allowed: a share from 0 to 1",
                    hint=f"leave `{name}` out for the default",
                )
        if budget is not None and budget < 0:
            raise SettingsError(
                f"budget `{budget}` is out of range; allowed: 0 cards and more",
                hint="leave it out for no limit",
            )
        self.budget, self.reviewer = budget, reviewer
        self._controls, self._blind, self._overlap = controls, blind, overlap
        self._seed = seed
        self._given, self._proposed, self._near = given, proposed, near
        self._pair = (given + 1) * (proposed.max(initial=0) + 2) + proposed + 1
        self._recalibration = Recalibration(p_wrong)
        known = np.flatnonzero(~np.isnan(suspicion))
        self._order = known[np.argsort(-suspicion[known], kind="stable")]
        rng = np.random.default_rng(seed_of(seed, "controls"))
        # Each stratum in an order of its own, so that a prefix is a random sample of it.
        self._random = {
            stratum: rng.permutation(known[flagged[known] == stratum]) for stratum in (True, False)
        }

    def next(self, current: Current) -> Card | None:
        """Choose the next card; None where the budget is used or nothing is left.

        Args:
            current: The verdicts that stand: by row, by reviewer.
        """
        mine = [row for row, by in current.items() if self.reviewer in by]
        if self.budget is not None and len(mine) >= self.budget:
            return None
        rng = np.random.default_rng(seed_of(self._seed, "card", self.reviewer, len(mine)))
        draw, blind, half = rng.random(3)
        found: int | None = None
        stratum = "control"
        if draw < self._controls:
            found = self._control(current, flagged=bool(half < 0.5))
        elif draw < self._controls + self._overlap:
            found, stratum = self._of_others(current), "overlap"
        if found is None:
            stratum = _TURNS[len(mine) % len(_TURNS)]
            found = self._suspect(current, stratum, turn=len(mine))
        if found is None:
            return None
        return Card(found, bool(blind < self._blind), stratum == "control", stratum)

    def _control(self, current: Current, *, flagged: bool) -> int | None:
        for stratum in (flagged, not flagged):
            for row in map(int, self._random[stratum]):
                if row not in current:
                    return row
        return None

    def _of_others(self, current: Current) -> int | None:
        rows = [row for row, by in current.items() if by and self.reviewer not in by]
        return min(rows, key=lambda row: seed_of(self._seed, "overlap", row)) if rows else None

    def _suspect(self, current: Current, stratum: str, *, turn: int) -> int | None:
        rows = self._unseen(current)
        if not len(rows):
            return None
        odds = self._odds(rows, current)
        if stratum == "boundary":
            return int(rows[np.argmin(np.abs(odds))])
        if stratum == "class":
            classes = np.unique(self._given[rows])
            odds = np.where(self._given[rows] == classes[turn % len(classes)], odds, -np.inf)
        if stratum == "pair":
            both = zip(self._given[rows].tolist(), self._proposed[rows].tolist(), strict=True)
            pairs = Counter(both)
            (given, proposed), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
            inside = (self._given[rows] == given) & (self._proposed[rows] == proposed)
            odds = np.where(inside, odds, -np.inf)
        return int(rows[np.argmax(odds)])

    def _unseen(self, current: Current) -> Ints:
        """List the worst rows that nobody has judged, nor a near-duplicate of them."""
        judged = np.fromiter(current, dtype=np.int64, count=len(current))
        count = _LOOKED_AT + len(judged)
        rows = self._fresh(self._order[:count], judged)
        # Where near-duplicates settle all of them, further ones are looked at.
        return rows if len(rows) else self._fresh(self._order[count:], judged)

    def _fresh(self, rows: Ints, judged: Ints) -> Ints:
        fresh = ~np.isin(rows, judged)
        if self._near is not None:
            fresh &= ~np.isin(self._near[rows], self._near[judged])
        return rows[fresh]

    def _odds(self, rows: Ints, current: Current) -> Floats:
        """Give log-odds of being wrong, as the verdicts so far have moved them.

        Probabilities are brought in line with the verdicts on all rows first. What verdicts on the
        same pair of classes then say beyond what was to be expected of them is added.
        """
        judged, wrong = _decided(current)
        p = self._recalibration.moved(np.concatenate([rows, judged]), judged, wrong)
        p = np.clip(p, 1e-4, 1 - 1e-4)
        p, expected = p[: len(rows)], p[len(rows) :]
        odds: Floats = np.log(p) - np.log1p(-p)
        pairs, place = np.unique(self._pair[judged], return_inverse=True)
        if not len(pairs):
            return odds
        seen = np.bincount(place)
        hits, means = np.bincount(place, wrong), np.bincount(place, expected)
        # One verdict of either kind is taken for granted, so that a single one moves little.
        moved = np.log((1 + hits) / (1 + means)) - np.log((1 + seen - hits) / (1 + seen - means))
        where = np.searchsorted(pairs, self._pair[rows]).clip(max=len(pairs) - 1)
        return odds + np.where(pairs[where] == self._pair[rows], moved[where], 0.0)


def columns_of(audit: AuditDirectory) -> tuple[Floats, Floats, Bools, Ints, Ints]:
    """Read what `Queue` wants to know of the rows of an audit, in the order of its arguments."""
    issues, here = audit.issues, audit.issues.places
    return (
        issues.suspicion[here],
        issues.p_wrong[here],
        issues.flagged[here],
        np.asarray(audit.ledger.given),
        issues.proposed[here],
    )


def _decided(current: Current) -> tuple[Ints, Bools]:
    """List the rows with a decision, and whether at least half found the label wrong."""
    rows, wrong = [], []
    for row, by in current.items():
        words = [verdict.verdict for verdict in by.values()]
        votes = len(words) - words.count("unsure")
        if votes:
            rows.append(row)
            wrong.append(2 * words.count("keep") <= votes)
    return np.array(rows, dtype=np.int64), np.array(wrong, dtype=bool)
