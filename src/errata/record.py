"""What is known about one sample: the object that `show`, the report and the review card print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Reason", "SampleRecord", "Verdict"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One piece of evidence against a label.

    Attributes:
        kind: What was looked at, one lower-case word such as ``margin`` or ``neighbours``.
        value: The number behind it, in the unit of its kind; NaN where there is none.
        text: The same in words, short enough for a list.

    Example:
        >>> Reason("margin", -3.1, "negative in 27 of 30 epochs").as_json()
        {'kind': 'margin', 'value': -3.1, 'text': 'negative in 27 of 30 epochs'}
    """

    kind: str
    value: float
    text: str

    def as_json(self) -> dict[str, Any]:
        """Give plain values for JSON; a number that is not finite becomes None."""
        return {"kind": self.kind, "value": _number(self.value), "text": self.text}


class Verdict(Protocol):
    """What a person decided about a sample."""

    verdict: str
    """``keep``, ``relabel``, ``drop`` or ``unsure``."""
    label: str | None
    """Name of the class that the person chose, for ``relabel``."""

    def as_json(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """Everything an audit says about one sample. Classes are names, as everywhere outside."""

    id: str
    """The key of the user."""
    row: int
    """The position in the source, from 0."""
    given: str | None
    """The label as delivered; None is unlabelled."""
    proposed: str | None
    """The class that fits better; None where there is none."""
    suspicion: float
    """Orders the rows: 0 to 1, higher = more likely wrong; NaN where the row has no label."""
    p_wrong: float
    """Calibrated probability, 0 to 1, that the given label is wrong."""
    p_proposed: float
    """Calibrated probability, 0 to 1, that the proposed label is right."""
    flagged: bool
    """The decision at the operating point of the audit."""
    tier: str
    """``obvious``, ``possible`` or ``fine``."""
    reasons: tuple[Reason, ...] = ()
    """Written for the worst flagged rows only, see `errata.issues.write_issues`."""
    curve: tuple[float, ...] = ()
    """Loss of the given label per epoch [nats], oldest first; empty where it was not tracked."""
    neighbours: tuple[int, ...] = ()
    """Rows that look most alike, nearest first; empty where features were not swept."""
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """Give plain values for JSON; a number that is not finite becomes None."""
        return {
            "id": self.id,
            "row": self.row,
            "given": self.given,
            "proposed": self.proposed,
            "suspicion": _number(self.suspicion),
            "p_wrong": _number(self.p_wrong),
            "p_proposed": _number(self.p_proposed),
            "flagged": self.flagged,
            "tier": self.tier,
            "reasons": [reason.as_json() for reason in self.reasons],
            "curve": [_number(loss) for loss in self.curve],
            "neighbours": list(self.neighbours),
            "verdict": None if self.verdict is None else self.verdict.as_json(),
        }


def _number(value: float) -> float | None:
    # JSON has no NaN and no infinity; json.dumps would write them and other readers would fail.
    return float(value) if math.isfinite(value) else None
