"""FiftyOne-style samples: one JSON object per sample, labels as ``Classification``.

Source: how FiftyOne writes samples and labels as JSON (``filepath``, ``tags``, ``_cls``). Tested
against that layout, not with FiftyOne.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from errata.errors import SourceError
from errata.exchange.answers import DECISIONS, Answer, Card, facts_of

__all__ = ["from_samples", "to_samples"]

_FACTS = "errata"
_ANSWER = "reviewed"


def to_samples(cards: Iterable[Card], classes: Sequence[str]) -> dict[str, Any]:
    """Write samples with their given and proposed labels, tiers as tags.

    A person answers with a ``Classification`` in the field ``reviewed``, or with the tag ``drop``
    or ``unsure``.

    Args:
        cards: What goes out.
        classes: Names of the classes.
    """
    samples = []
    for card in cards:
        facts = facts_of(card)
        sample = {
            "filepath": card.image,
            "tags": [facts["tier"]] if "tier" in facts else [],
            _FACTS: facts,
            "given": _label(facts.get("given")),
            "proposed": _label(facts.get("proposed"), card.record.as_json()["p_proposed"]),
            _ANSWER: None,
        }
        samples.append(sample)
    kinds = {name: list(classes) for name in ("given", "proposed", _ANSWER)}
    return {"name": "errata", "media_type": "image", "classes": kinds, "samples": samples}


def from_samples(document: Any) -> list[Answer]:
    """Read the answers of samples, in the order of the file.

    Args:
        document: What `to_samples` gave, with answers filled in.

    Raises:
        SourceError: A sample has another layout.
    """
    samples = document.get("samples") if isinstance(document, Mapping) else document
    if not isinstance(samples, list):
        raise SourceError(
            "the file has no list `samples`; allowed: the samples that `errata export` wrote",
            hint="write the data set back as JSON, with all its fields",
        )
    answers = []
    for place, sample in enumerate(samples):
        facts = sample.get(_FACTS) if isinstance(sample, Mapping) else None
        if not isinstance(facts, Mapping):
            raise SourceError(
                f"sample {place} has no field `{_FACTS}`; allowed: those that `errata export` "
                "wrote",
                hint="write the data set back as JSON, with all its fields",
            )
        tags = [tag for tag in sample.get("tags") or () if tag in DECISIONS]
        chosen = sample.get(_ANSWER)
        if isinstance(chosen, Mapping):
            chosen = chosen.get("label")
        answers.append(
            Answer(
                facts,
                None if chosen is None else str(chosen),
                tags[0] if tags else None,
                str(sample.get("reviewer") or ""),
                f"fiftyone {facts.get('id')} {sample.get('reviewer') or ''}",
            )
        )
    return answers


def _label(name: str | None, confidence: float | None = None) -> dict[str, Any] | None:
    if name is None:
        return None
    label: dict[str, Any] = {"_cls": "Classification", "label": name}
    return label if confidence is None else {**label, "confidence": confidence}
