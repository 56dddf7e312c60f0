"""What the formats of review tools have in common: cards that go out, answers that come back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from errata.directory import AuditDirectory
from errata.errors import SettingsError, SourceError
from errata.record import SampleRecord
from errata.review.decision import Verdict, check

__all__ = ["DECISION", "DECISIONS", "LABEL", "Answer", "Card", "facts_of", "verdict_of"]

LABEL = "label"
"""Name of the question that asks for a class."""
DECISION = "decision"
"""Name of the question for what is no class; its answer counts before that of the other."""
DECISIONS = ("drop", "unsure")


@dataclass(frozen=True)
class Card:
    """One sample that goes to another tool."""

    record: SampleRecord
    image: str
    """Address of its picture, or the picture itself as a ``data:`` address; empty is none."""
    audit: str
    """Fingerprint of its audit."""
    blind: bool = False
    """It says nothing of what errata thinks."""
    control: bool = False
    """It was drawn at random."""


@dataclass(frozen=True)
class Answer:
    """What one person answered to one card."""

    facts: Mapping[str, Any]
    """What travelled with the card, see `facts_of`."""
    label: str | None
    """The chosen class."""
    decision: str | None
    """One of `DECISIONS`; it counts before the label."""
    reviewer: str
    """Who answered; empty where the tool does not tell."""
    key: str
    """Names the answer among all of its tool."""
    seconds: float | None = None
    """How long it took [s]."""
    when: str = ""
    """When it was given, UTC, ISO 8601; empty where the tool does not tell."""


def facts_of(card: Card) -> dict[str, Any]:
    """Give what travels with a card and comes back with its answer; None is left out.

    A blind card says nothing of what errata thinks.
    """
    record = card.record
    facts: dict[str, Any] = {
        "id": record.id,
        "row": record.row,
        "audit": card.audit,
        "given": record.given,
        "blind": card.blind or None,
        "control": card.control or None,
    }
    if not card.blind:
        plain = record.as_json()
        facts |= {key: plain[key] for key in ("proposed", "p_wrong", "tier")}
        facts["reasons"] = "; ".join(reason.text for reason in record.reasons)
    return {key: value for key, value in facts.items() if value not in (None, "")}


def verdict_of(answer: Answer, audit: AuditDirectory, *, reviewer: str = "") -> Verdict | None:
    """Turn an answer into a verdict; None where nothing was answered.

    A label that equals the given one keeps it. The ``uid`` follows from the answer, so that the
    same file may be read twice.

    Args:
        answer: What a reader of a format gave.
        audit: The audit that the cards came from.
        reviewer: Whose answer it is, where the tool does not tell.

    Raises:
        SourceError: The card is none of this audit, or the answer is no class.
        SettingsError: A value can be no verdict's.
    """
    row = _row_of(answer, audit)
    if answer.label is None and answer.decision is None:
        return None
    record = audit.record(row)
    who = answer.reviewer or reviewer
    if answer.decision is not None:
        if answer.decision not in DECISIONS:
            raise _strange(answer, answer.decision, DECISIONS)
        word, chosen = answer.decision, None
    elif answer.label not in audit.ledger.classes:
        raise _strange(answer, str(answer.label), audit.ledger.classes)
    elif answer.label == record.given:
        word, chosen = "keep", None
    else:
        word, chosen = "relabel", answer.label
    blind = _is_true(answer.facts.get("blind"))
    verdict = Verdict(
        uid=f"import.{_hash(answer.key)}.{_hash(row, word, chosen, who, answer.when)}",
        row=row,
        id=record.id,
        verdict=word,
        label=chosen,
        seconds=answer.seconds,
        reviewer=who,
        blind=blind,
        control=_is_true(answer.facts.get("control")),
        proposed=None if blind else record.proposed,
        when=answer.when,
    )
    check(verdict)
    return verdict


def _row_of(answer: Answer, audit: AuditDirectory) -> int:
    """Find the row of an answer, and refuse one that belongs to another audit."""
    name, mark = answer.facts.get("id"), answer.facts.get("audit")
    if not isinstance(name, str):
        raise SourceError(
            f"answer `{answer.key}` has the id `{name}`; allowed: the id of a sample, as text",
            hint="read back the tasks that `errata export` wrote, with all their fields",
        )
    if mark not in (None, "", audit.settings.get("fingerprint")):
        raise SourceError(
            f"answer `{answer.key}` belongs to the audit `{mark}`; this one is "
            f"`{audit.settings.get('fingerprint')}`",
            hint="give the audit that the tasks were exported from",
        )
    try:
        return audit.row(name)
    except SettingsError as error:
        raise SourceError(f"answer `{answer.key}`: {error.message}", hint=error.hint) from None


def _is_true(value: object) -> bool:
    # Tables and some tools give truth values back as numbers or text.
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")


def _hash(*content: object) -> str:
    text = json.dumps(content, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _strange(answer: Answer, value: str, allowed: Collection[str]) -> SourceError:
    few = ", ".join(list(allowed)[:8]) + (", ..." if len(allowed) > 8 else "")
    return SourceError(
        f"answer `{answer.key}` is `{value}`; allowed: {few}",
        hint="the classes of the tool must be spelt as in the audit",
    )
