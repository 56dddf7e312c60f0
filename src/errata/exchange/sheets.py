"""Tables to fill in: one line per card, the answer in the columns ``label`` or ``decision``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from errata.errors import SourceError
from errata.exchange.answers import DECISION, LABEL, Answer, Card, facts_of

__all__ = ["from_columns", "to_columns"]

_FACTS = ("id", "row", "audit", "given", "proposed", "p_wrong", "tier", "reasons")
_MARKS = ("blind", "control")
_EMPTY = (LABEL, DECISION, "reviewer")
_APPLIED = {"weight", "source", "verdicts"}
"""Columns of corrected labels: read as answers, the model's choices would count as people's."""


def to_columns(cards: Iterable[Card]) -> dict[str, list[str]]:
    """Write one line per card, with empty columns for the answer and who gave it."""
    columns: dict[str, list[str]] = {name: [] for name in (*_FACTS, *_MARKS, "image", *_EMPTY)}
    for card in cards:
        facts = facts_of(card)
        for name in (*_FACTS, *_MARKS):
            value = facts.get(name, "")
            columns[name].append("1" if value is True else str(value))
        # A picture inside a cell would make the table unreadable.
        columns["image"].append("" if card.image.startswith("data:") else card.image)
        for name in _EMPTY:
            columns[name].append("")
    return columns


def from_columns(columns: Mapping[str, Sequence[str]]) -> list[Answer]:
    """Read a table that was filled in, in the order of its lines.

    Args:
        columns: Text by column; ``id`` and one of ``label`` and ``decision`` are needed.

    Raises:
        SourceError: A person answers twice for one id, or it is no table of answers.
    """
    if set(columns) >= _APPLIED:
        raise SourceError(
            "the table is one of labels that `errata apply` wrote, most of which nobody looked at; "
            "allowed: cards that were filled in",
            hint="write cards with `errata export`",
        )
    count = len(columns["id"])
    empty = [""] * count
    answers: list[Answer] = []
    seen: set[str] = set()
    for place in range(count):
        cell = {name: columns.get(name, empty)[place].strip() for name in (*_EMPTY, "seconds")}
        # Ids are taken as they are: spaces may belong to a file name.
        facts = {name: columns[name][place] for name in (*_FACTS, *_MARKS) if name in columns}
        key = f"table {facts['id']} {cell['reviewer']}"
        if key in seen:
            raise SourceError(
                f"the table has two lines for the id `{facts['id']}` and the reviewer "
                f"`{cell['reviewer']}`; allowed: one",
                hint="keep one of them, or fill in the column `reviewer`",
            )
        seen.add(key)
        label, decision = cell[LABEL] or None, cell[DECISION].lower() or None
        seconds = _seconds(cell["seconds"], key)
        answers.append(Answer(facts, label, decision, cell["reviewer"], key, seconds))
    return answers


def _seconds(text: str, key: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise SourceError(
            f"answer `{key}` took `{text}` seconds; allowed: a number, or empty",
            hint="leave the column `seconds` out",
        ) from None
