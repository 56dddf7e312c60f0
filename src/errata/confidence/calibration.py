"""What a model needs to be honest: a temperature, and curves that sets and answers are read off.

Fitted once, on rows that were not trained on and whose labels may be noisy; kept with the model.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errata.confidence.conformal import (
    confidence_at,
    conformal_curve,
    plain_scores,
    selective_curve,
    threshold_at,
)
from errata.confidence.noise import fit_noise
from errata.confidence.temperature import scale
from errata.confidence.transitions import Floats
from errata.errors import SettingsError

__all__ = ["LEAST_ROWS", "Calibration", "check_share", "fit_calibration"]

LEAST_ROWS = 100
"""Fewer rows say too little about a temperature and a rate of noise; our choice."""
_FLOOR = 1e-30
_CURVES = ("transition", "limits", "shares", "confidence", "highest")
_NUMBERS = ("method", "rows", "temperature", "noise_rate")


@dataclass(frozen=True)
class Calibration:
    """How to read the probabilities of one model.

    Attributes:
        method: Of the noise: ``uniform``, ``class`` or ``recipe``, see `fit_noise`.
        rows: How many rows it was fitted to.
        temperature: Divides the logits.
        noise_rate: Share of wrong labels among these rows, as estimated, 0 to 1.
        transition: T, [C, C].
        limits: [m] scores of labels, see `conformal_curve`.
        shares: [m] how many true labels score at most so much.
        confidence: [N] see `selective_curve`.
        highest: [N] largest share of wrong answers down to that confidence.
    """

    method: str
    rows: int
    temperature: float
    noise_rate: float
    transition: Floats
    limits: Floats
    shares: Floats
    confidence: Floats
    highest: Floats

    def probs(self, raw: Floats) -> Floats:
        """Make probabilities [N, C] of the model as sure as they are right; the order stays."""
        return scale(_logs(raw), self.temperature)

    def sets(self, probs: Floats, coverage: float) -> NDArray[np.bool_]:
        """Choose labels [N, C] bool such that the true one is among them as often as asked for.

        A set may be empty: where nothing is as likely as true labels usually are.

        Args:
            probs: Calibrated, as `probs` gives them.
            coverage: Above 0 and below 1, such as 0.9.

        Raises:
            SettingsError: The coverage is out of range.
        """
        check_share("coverage", coverage, "0.9")
        limit = threshold_at(self.limits, self.shares, rows=self.rows, coverage=coverage)
        return plain_scores(probs) <= limit

    def answers(self, probs: Floats, risk: float) -> NDArray[np.bool_]:
        """Choose the rows [N] bool that can be answered with at most this share of wrong answers.

        Args:
            probs: Calibrated, as `probs` gives them.
            risk: Above 0 and below 1, such as 0.02.

        Raises:
            SettingsError: The risk is out of range.
        """
        check_share("risk", risk, "0.02")
        found = confidence_at(self.confidence, self.highest, risk=risk)
        return np.asarray(probs.max(1) >= found)

    def arrays(self) -> dict[str, Floats]:
        """Give what is kept as arrays, by name."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in _CURVES}

    def numbers(self) -> dict[str, Any]:
        """Give what is kept as plain values, by name."""
        return {name: getattr(self, name) for name in _NUMBERS}

    @classmethod
    def of(cls, numbers: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Calibration:
        """Put together what `numbers` and `arrays` gave.

        Raises:
            ValueError: They do not fit together.
            KeyError: One is missing.
        """
        found = {name: np.asarray(arrays[name], dtype=np.float64) for name in _CURVES}
        method, rows = str(numbers["method"]), int(numbers["rows"])
        temperature, rate = float(numbers["temperature"]), float(numbers["noise_rate"])
        shapes = {name: array.shape for name, array in found.items()}
        if (
            temperature <= 0
            or shapes["limits"] != shapes["shares"]
            or shapes["confidence"] != shapes["highest"]
        ):
            raise ValueError("its calibration is damaged")
        return cls(method, rows, temperature, rate, **found)


def fit_calibration(
    raw: Floats, given: NDArray[np.int64], *, transition: Floats | None = None
) -> Calibration | None:
    """Fit temperature, noise and curves to rows that were not trained on.

    The noise is taken to depend on the class alone.

    Args:
        raw: Probabilities of the model, [N, C].
        given: Labels [N], right or wrong; -1 does not count.
        transition: T, [C, C], of another source, such as a recipe; tried beside those that are
            fitted here. None is none.

    Returns:
        None where fewer than 100 rows have a label.
    """
    labelled = given >= 0
    table, labels = np.asarray(raw, dtype=np.float64)[labelled], given[labelled].astype(np.int64)
    if len(labels) < LEAST_ROWS:
        return None
    noise = fit_noise(_logs(table), labels, transition=transition)
    probs = scale(_logs(table), noise.temperature)
    limits, shares = conformal_curve(plain_scores(probs), labels, transition=noise.transition)
    confidence, highest = selective_curve(probs, labels, transition=noise.transition)
    rate = float(1 - (probs.mean(0) * np.diag(noise.transition)).sum())
    return Calibration(
        method=noise.method,
        rows=len(labels),
        temperature=noise.temperature,
        noise_rate=rate,
        transition=noise.transition,
        limits=limits,
        shares=shares,
        confidence=confidence,
        highest=highest,
    )


def _logs(probs: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(probs, dtype=np.float64), _FLOOR)))


def check_share(name: str, value: float, usual: str) -> None:
    """Refuse what is no share above 0 and below 1.

    Args:
        name: What it is a value of.
        value: To be checked.
        usual: A common choice, for the hint.

    Raises:
        SettingsError: It is out of range.
    """
    if not 0 < value < 1:
        raise SettingsError(
            f"{name} `{value}` is not allowed; allowed: a share above 0 and below 1",
            hint=f"{usual} is a common choice",
        )
