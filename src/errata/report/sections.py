"""What each section of the report says, computed from the audit.

Shapes: N rows, C classes. Everything here is plain values and text; the page escapes the text.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from errata.correct.lineage import moved_facts
from errata.directory import AuditDirectory
from errata.issues import TIERS
from errata.report import figures
from errata.report.columns import Columns
from errata.report.words import decimal, duration, is_number, percent, whole

__all__ = [
    "ClassRow",
    "Pair",
    "class_table",
    "command_line",
    "confusion_map",
    "count_pairs",
    "facts",
    "headline",
    "planted",
    "tests",
    "tier_counts",
]

MOST_CLASSES_IN_MAP = 30


@dataclass(frozen=True)
class ClassRow:
    """One line of the table of classes."""

    name: str
    rows: int
    flagged: int
    towards: str
    """The class that is proposed most often for its flagged rows; empty where none is."""
    towards_rows: int
    dropped: int
    """Rows that the recipe removed from training."""

    @property
    def share(self) -> float:
        """Share of its rows that is flagged, 0 to 1."""
        return self.flagged / self.rows if self.rows else 0.0

    @property
    def dropped_share(self) -> float:
        """Share of its rows that was removed from training, 0 to 1."""
        return self.dropped / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Pair:
    """How many flagged rows are given one class and proposed another."""

    given: str
    proposed: str
    rows: int


def count_pairs(columns: Columns) -> list[Pair]:
    """Count flagged rows by given and proposed class, most frequent first, ties by class."""
    size, names = len(columns.classes), columns.classes
    chosen = columns.flagged & columns.labelled & (columns.proposed >= 0)
    codes = columns.given[chosen] * size + columns.proposed[chosen]
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        Pair(names[code // size], names[code % size], count)
        for code, count in zip(found[order].tolist(), counts[order].tolist(), strict=True)
        if code // size != code % size
    ]


def class_table(columns: Columns, pairs: Sequence[Pair]) -> list[ClassRow]:
    """Say how each class fares, the one with the largest flagged share first, ties by class."""
    size = len(columns.classes)
    rows = np.bincount(columns.given[columns.labelled], minlength=size)
    flagged = np.bincount(columns.given[columns.labelled & columns.flagged], minlength=size)
    dropped = np.bincount(columns.given[columns.labelled & columns.dropped], minlength=size)
    towards: dict[str, Pair] = {}
    for pair in pairs:
        towards.setdefault(pair.given, pair)
    table = [
        ClassRow(
            name,
            int(rows[i]),
            int(flagged[i]),
            towards[name].proposed if name in towards else "",
            towards[name].rows if name in towards else 0,
            int(dropped[i]),
        )
        for i, name in enumerate(columns.classes)
    ]
    return sorted(table, key=lambda line: -line.share)


def confusion_map(columns: Columns, pairs: Sequence[Pair]) -> str:
    """Draw given against proposed; empty where there are too many classes or no pair."""
    names = columns.classes
    if len(names) > MOST_CLASSES_IN_MAP or not pairs:
        return ""
    number = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for pair in pairs:
        counts[number[pair.given], number[pair.proposed]] = pair.rows
    first = pairs[0]
    label = (
        f"Given label down, proposed label across. Most frequent: {first.given} to "
        f"{first.proposed}, {whole(first.rows)} rows."
    )
    return figures.heat_map(counts, names, label=label)


def headline(audit: AuditDirectory, columns: Columns) -> dict[str, Any]:
    """Say how much is wrong, in words and as a strip with its interval."""
    rate: Mapping[str, Any] = audit.summary.get("noise_rate") or {}
    estimate, low, high = rate.get("estimate"), rate.get("low"), rate.get("high")
    flagged, rows = int(columns.flagged.sum()), int(columns.labelled.sum())
    counted = f"{whole(flagged)} of {whole(rows)} rows {'is' if flagged == 1 else 'are'} flagged"
    if not rows:
        return {
            "title": "No row has a label",
            "interval": "",
            "counted": "",
            "strip": "",
            "how": "",
        }
    if estimate is None or not is_number(estimate):
        return {
            "title": counted,
            "interval": "The share of wrong labels was not estimated.",
            "counted": "",
            "strip": "",
            "how": "",
        }
    about = percent(estimate)
    title = f"About {about} of the labels look wrong"
    if round(estimate, 4) <= 0:
        title = "Hardly any label looks wrong" if flagged else "No label looks wrong"
    interval, strip = "", ""
    if low is not None and high is not None and is_number(low) and is_number(high):
        span = f"{percent(low, unit=False)} to {percent(high)}"
        interval = f"95\u00a0% interval {span}"
        words = f"Estimated share of wrong labels {about}, {interval}."
        strip = figures.interval_strip(estimate, low, high, label=words)
    how = str(rate.get("method") or "")
    return {"title": title, "interval": interval, "counted": counted, "strip": strip, "how": how}


def tier_counts(columns: Columns) -> list[dict[str, Any]]:
    """Count labelled rows per tier; rows without a label are a part of their own."""
    total = max(len(columns.given), 1)
    counts = [(t, int(((columns.tier == t) & columns.labelled).sum())) for t in TIERS]
    bare = int((~columns.labelled).sum())
    if bare:
        counts.append(("unlabelled", bare))
    return [{"name": name, "rows": rows, "share": rows / total} for name, rows in counts]


def facts(audit: AuditDirectory, columns: Columns) -> list[tuple[str, str]]:
    """List what was audited and how, as pairs of name and value; what is unknown is left out."""
    summary = audit.summary
    stages = len({line.get("stage") for line in audit.log})
    bare = int((~columns.labelled).sum())
    epochs = summary.get("epochs")
    pairs = [
        ("source", _source(audit)),
        ("rows", whole(len(columns.given)) + (f", {whole(bare)} without a label" if bare else "")),
        ("classes", whole(len(columns.classes))),
        ("recipe", summary.get("recipe")),
        ("model", summary.get("model")),
        (
            "epochs",
            f"{whole(epochs)}{f' in {stages} stages' if stages > 1 else ''}"
            if is_number(epochs)
            else None,
        ),
        ("took", duration(summary["seconds"]) if is_number(summary.get("seconds")) else None),
        ("device", summary.get("device")),
        ("seed", summary.get("seed")),
        ("date", _day(summary.get("date") or audit.settings.get("date"))),
        ("errata", summary.get("version")),
        *moved_facts(audit),
    ]
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def planted(audit: AuditDirectory) -> list[tuple[str, str, str]]:
    """Say how well the known errors were found: name, value and meaning of each measure."""
    measured: Mapping[str, Any] = audit.summary.get("planted") or {}
    meanings = (
        ("precision", "precision", "of the flagged rows are really wrong"),
        ("recall", "recall", "of the wrong labels are flagged"),
        ("relabel_accuracy", "right proposals", "of the wrong labels found get the true one"),
    )
    found = [
        (name, percent(measured[key]), meaning)
        for key, name, meaning in meanings
        if is_number(measured.get(key))
    ]
    if is_number(measured.get("auroc")):
        meaning = "chance that a wrong label is ranked above a right one; 1 is perfect, 0.5 is luck"
        found.append(("AUROC", decimal(measured["auroc"]), meaning))
    if is_number(measured.get("f1")):
        best = measured.get("oracle_f1")
        reach = (
            f"; the best possible cut of this ranking gives {decimal(best)}"
            if is_number(best)
            else ""
        )
        found.append(("F1", decimal(measured["f1"]), f"joins precision and recall{reach}"))
    if is_number(measured.get("rate_error")):
        points = f"{100 * measured['rate_error']:+.1f}".replace("-", "\u2212")
        found.append(
            ("rate error", points, "percentage points from the true share of wrong labels")
        )
    return found


def tests(audit: AuditDirectory) -> list[dict[str, Any]]:
    """List the test sets and what was measured on each, as text."""
    measured = audit.summary.get("test")
    if not isinstance(measured, Mapping) or not measured:
        return []
    by_name = (
        measured if all(isinstance(m, Mapping) for m in measured.values()) else {"test": measured}
    )
    return [
        {
            "name": str(name),
            "rows": whole(values["rows"]) if is_number(values.get("rows")) else "\u2013",
            "cells": [
                percent(values[key]) if is_number(values.get(key)) else "\u2013"
                for key in ("accuracy", "balanced_accuracy", "top5", "ece")
            ],
        }
        for name, values in by_name.items()
    ]


def command_line(audit: AuditDirectory) -> str:
    """Write the command that repeats the audit, as far as flags say it."""
    settings = audit.settings
    if isinstance(settings.get("command"), str):
        return str(settings["command"])
    where = settings.get("source")
    where = where if isinstance(where, Mapping) else {"spec": where or _source(audit)}
    words = ["errata", "audit", str(where.get("spec", "digits"))]
    stages = settings.get("stage") or []
    lengths = {stage.get("epochs") for stage in stages if isinstance(stage, Mapping)}
    flags = {
        **{name: where.get(name) for name in ("labels", "images", "limit", "noise", "truth")},
        **{name: where.get(name) for name in ("size", "column")},
        **{name: settings.get(name) for name in ("recipe", "model")},
        "epochs": lengths.pop() if len(lengths) == 1 else None,
        **{name: settings.get(name) or None for name in ("folds", "features")},
        "flag": None if settings.get("flag") == "auto" else settings.get("flag"),
        "seed": settings.get("seed"),
        "out": audit.summary.get("out"),
    }
    for name, value in flags.items():
        words += [] if value is None else [f"--{name}", str(value)]
    for name, spec in (where.get("tests") or {}).items():
        words += ["--test", f"{name}={spec}"]
    return shlex.join(words)


def _source(audit: AuditDirectory) -> str:
    told = audit.summary.get("source") or audit.settings.get("source") or ""
    return str(told.get("spec", "")) if isinstance(told, Mapping) else str(told)


def _day(date: object) -> str | None:
    if date is None:
        return None
    try:
        day = datetime.fromisoformat(str(date))
    except ValueError:
        return str(date)
    return f"{day.day} {day:%B %Y}"
