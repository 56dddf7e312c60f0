"""Argilla: records out, responses back.

Source: what ``Record.to_dict`` and ``Record.from_dict`` of Argilla 2 write and read. Tested against
that layout, not against a running server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from errata.errors import SourceError
from errata.exchange.answers import DECISION, LABEL, Answer, Card, facts_of

__all__ = ["from_records", "to_records"]

_UNFINISHED = ("draft", "discarded")


def to_records(cards: Iterable[Card]) -> list[dict[str, Any]]:
    """Write one record per card, with the proposed label as a suggestion.

    The data set needs an image field ``image``, a label question ``label`` with the classes and a
    label question ``decision`` with ``drop`` and ``unsure``; neither of them required.
    """
    written = []
    for card in cards:
        facts = facts_of(card)
        suggestions = {}
        if card.record.proposed is not None and not card.blind:
            suggestions[LABEL] = {
                "value": card.record.proposed,
                "score": card.record.as_json()["p_proposed"],
                "agent": "errata",
            }
        written.append(
            {
                "id": facts.pop("id"),
                "fields": {"image": card.image},
                # Metadata hold text and numbers alone.
                "metadata": {k: int(v) if isinstance(v, bool) else v for k, v in facts.items()},
                "suggestions": suggestions,
                "responses": {},
                "vectors": {},
            }
        )
    return written


def from_records(records: Iterable[Any]) -> list[Answer]:
    """Read the responses of exported records, in the order of the file.

    A record that nobody answered gives an answer without content. Responses that say that they are
    drafts or discarded are left out; exports of most versions do not say it, so export submitted
    ones alone.

    Args:
        records: The list that ``Dataset.records.to_list`` or ``to_json`` of Argilla gives.

    Raises:
        SourceError: A record has another layout.
    """
    answers = []
    for place, record in enumerate(records):
        if not isinstance(record, Mapping) or not isinstance(record.get("metadata"), Mapping):
            raise SourceError(
                f"record {place} of the export has no `metadata`; allowed: records with `id`, "
                "`metadata` and `responses`",
                hint="export with `dataset.records(with_responses=True).to_json(FILE)`",
            )
        facts = {**record["metadata"], "id": record.get("id")}
        people = _by_person(record, place) or {"": {}}
        answers += [
            Answer(
                facts,
                chosen.get(LABEL),
                chosen.get(DECISION),
                person,
                f"argilla {record.get('id')} {person}",
            )
            for person, chosen in people.items()
        ]
    return answers


def _by_person(record: Mapping[str, Any], place: int) -> dict[str, dict[str, str]]:
    people: dict[str, dict[str, str]] = {}
    try:
        for question, responses in (record.get("responses") or {}).items():
            for response in responses:
                if response.get("status") in _UNFINISHED or response.get("value") is None:
                    continue
                person = people.setdefault(str(response.get("user_id") or ""), {})
                person[question] = str(response["value"])
    except (AttributeError, TypeError):
        raise SourceError(
            f"record {place} of the export has responses of another layout; allowed: for each "
            "question a list of objects with `value` and `user_id`",
            hint="export with `dataset.records(with_responses=True).to_json(FILE)`",
        ) from None
    return people
