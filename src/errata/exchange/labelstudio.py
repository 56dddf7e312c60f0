"""Label Studio: tasks out, annotations back.

Source: the JSON task format of Label Studio's documentation (``data``, ``predictions``,
``annotations``). Tested against that description, not against a running server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from errata.errors import SourceError
from errata.exchange.answers import DECISION, DECISIONS, LABEL, Answer, Card, facts_of

__all__ = ["config", "from_tasks", "to_tasks"]

_IMAGE = "image"


def config(classes: Sequence[str]) -> str:
    """Write the labelling configuration that a project for these tasks needs.

    Example:
        >>> print(config(["cat", "dog"]).splitlines()[1])
          <Image name="image" value="$image"/>
    """
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{_IMAGE}" value="${_IMAGE}"/>',
            '  <Text name="given" value="$given"/>',
            *_choices(LABEL, classes),
            *_choices(DECISION, DECISIONS),
            "</View>",
        ]
    )


def to_tasks(cards: Iterable[Card]) -> list[dict[str, Any]]:
    """Write one task per card, with the proposed label as a prediction."""
    tasks = []
    for card in cards:
        # The configuration shows the given label, so the field may not be missing.
        data = {_IMAGE: card.image, "given": "", **facts_of(card)}
        task: dict[str, Any] = {"data": data}
        if card.record.proposed is not None and not card.blind:
            task["predictions"] = [
                {
                    "model_version": "errata",
                    "score": card.record.as_json()["p_proposed"],
                    "result": [
                        {
                            "from_name": LABEL,
                            "to_name": _IMAGE,
                            "type": "choices",
                            "value": {"choices": [card.record.proposed]},
                        }
                    ],
                }
            ]
        tasks.append(task)
    return tasks


def from_tasks(tasks: Iterable[Any]) -> list[Answer]:
    """Read the annotations of exported tasks, in the order of the file.

    A task that nobody answered, or that was skipped, gives an answer without content.

    Args:
        tasks: The list in Label Studio's JSON export.

    Raises:
        SourceError: A task has another layout.
    """
    answers = []
    for place, task in enumerate(tasks):
        if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
            raise SourceError(
                f"task {place} of the export has no `data`; allowed: tasks with `data` and "
                "`annotations`",
                hint="export as JSON, not as JSON-MIN or CSV",
            )
        try:
            given = [
                _answer(task, annotation, place)
                for annotation in task.get("annotations") or ()
                if not annotation.get("was_cancelled")
            ]
        except (AttributeError, TypeError, KeyError, ValueError):
            raise SourceError(
                f"task {place} of the export has an annotation of another layout; allowed: "
                "`result` with `choices`",
                hint="set the project up with the configuration that `errata export` wrote",
            ) from None
        answers += given or [Answer(task["data"], None, None, "", f"label-studio {place}")]
    return answers


def _answer(task: Mapping[str, Any], annotation: Mapping[str, Any], place: int) -> Answer:
    chosen = _chosen(annotation.get("result") or ())
    seconds = annotation.get("lead_time")
    return Answer(
        task["data"],
        chosen.get(LABEL),
        chosen.get(DECISION),
        _person(annotation.get("completed_by")),
        f"label-studio {task.get('id', place)} {annotation.get('id', '')}",
        None if seconds is None else float(seconds),
        str(annotation.get("updated_at") or annotation.get("created_at") or ""),
    )


def _choices(name: str, values: Sequence[str]) -> list[str]:
    opening = f'  <Choices name="{name}" toName="{_IMAGE}" choice="single" showInline="true">'
    return [opening, *(f"    <Choice value={quoteattr(v)}/>" for v in values), "  </Choices>"]


def _chosen(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {
        str(result.get("from_name")): str(result["value"]["choices"][0])
        for result in results
        if result.get("type") == "choices" and result.get("value", {}).get("choices")
    }


def _person(completed_by: Any) -> str:
    if isinstance(completed_by, Mapping):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return "" if completed_by is None else str(completed_by)
