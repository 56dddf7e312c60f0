"""What the recipe did and found out on its way: its notes, and what it remembered as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from errata.directory import AuditDirectory
from errata.report.curves import Figure
from errata.report.density_figure import density_panels, density_scatter
from errata.report.figures import heat_map
from errata.report.words import decimal, is_number, percent, whole

__all__ = ["Notes", "label_steps", "recipe_figures", "recipe_notes"]

_MOST_CLASSES = 30
_WORDS = {
    "log_classes": "loss of a guess (ln C)",
    "null": "percentile of the null losses",
    "variance": "variance v of the simulated losses",
    "predicted_q10": "their 10th percentile by Normal(ln C + v/2, v)",
    "simulated_q10": "their 10th percentile as simulated",
    "feature_model": "model of the features",
    "feature_mean": "mean of the real features",
    "feature_variance": "variance of the real features",
    "logit_scale": "scale of the logits",
    "share": "share of rows dropped",
    "threshold": "dropped above the loss",
}
_SHARES = ("share",)


@dataclass(frozen=True)
class Notes:
    """What one part of the recipe wrote down.

    Attributes:
        title: Name of the part.
        pairs: Name and value of each fact.
    """

    title: str
    pairs: tuple[tuple[str, str], ...]


def recipe_notes(audit: AuditDirectory) -> list[Notes]:
    """List the facts that the parts of the recipe noted, part by part."""
    notes: Mapping[str, Any] = audit.summary.get("notes") or {}
    found = []
    for part, facts in notes.items():
        if isinstance(facts, Mapping) and facts:
            pairs = tuple((_named(key), _told(key, value)) for key, value in facts.items())
            found.append(Notes("removed rows" if part == "removed" else part, pairs))
    return found


def _named(key: str) -> str:
    return _WORDS.get(key, key.replace("_", " "))


def _told(key: str, value: object) -> str:
    if not is_number(value):
        return str(value) if value is not None else "\u2013"
    if any(word in key.split("_") for word in _SHARES):
        return percent(float(value))
    return whole(value) if isinstance(value, int) else decimal(float(value))


def label_steps(audit: AuditDirectory) -> list[tuple[str, str]]:
    """Say how many labels were right before the recipe corrected any, and after."""
    labels: Mapping[str, Any] = audit.summary.get("labels") or {}
    steps = (
        ("before", "as given"),
        ("first", "after the first correction"),
        ("last", "after the last correction"),
    )
    found = [(words, percent(labels[key])) for key, words in steps if is_number(labels.get(key))]
    for number, stage in enumerate(labels.get("stages") or [], 1):
        if is_number(stage.get("right")):
            rows = f"among the {whole(stage['rows'])} rows of stage {number}"
            found.append((rows, percent(stage["right"])))
    return found


def recipe_figures(audit: AuditDirectory) -> list[Figure]:
    """Draw the transition matrix that was estimated or learned, and the choice of prototypes."""
    memory, classes = audit.memory, list(audit.ledger.classes)
    figures: list[Figure] = []
    if "transition" in memory and len(classes) <= _MOST_CLASSES:
        figures.append(_transition(memory["transition"], classes))
    if "smp_density" in memory:
        figures += _prototypes(memory, classes)
    return figures


def _transition(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    kept = percent(float(np.diag(matrix).mean()))
    shares = np.rint(100 * matrix).astype(np.int64)
    label = f"Transition matrix in percent; labels that stay as they are: {kept} on average"
    drawn = heat_map(shares, classes, label=label, axes=("true", "given"), diagonal=True, unit=" %")
    return Figure(
        "Transition matrix",
        drawn,
        "How often each true class (down) is labelled as each given one (across), in percent, as "
        f"the recipe was told, estimated or learned it. By this matrix {kept} of the labels of a "
        "class are right on average.",
    )


def _prototypes(memory: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Figure]:
    panels = density_panels(memory, classes)
    if not panels:
        return []
    if "smp_distance" in memory:
        up, height = "distance to a denser row \u03b4", "those far from denser ones"
    else:
        up, height = "likeness to a denser row \u03b7", "near-duplicates of denser ones"
    return [
        Figure(
            "Prototypes",
            density_scatter(panels, label=f"Density and {up}, for {len(panels)} classes", up=up),
            "Each dot is a candidate of its class: dense ones lie to the right, "
            f"{height} at the top. Filled dots became prototypes.",
        )
    ]
