"""One HTML file from an audit directory: no network, no script needed to read it."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from errata.directory import AuditDirectory, guard_writes
from errata.errors import SettingsError
from errata.record import SampleRecord
from errata.report import curves, figures, recipe, reliability, sections, words
from errata.report.columns import Columns
from errata.report.pictures import Picture, picture_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["build_report"]

_TEMPLATES = Path(__file__).parent / "templates"
_CALM = 12
"""Samples shown where nothing is flagged: enough to see that the worst ones look fine."""
_SHOWN_CLASSES = 30
_SHOWN_PROBLEMS = 50


@dataclass(frozen=True)
class Card:
    """One sample of the gallery."""

    record: SampleRecord
    picture: Picture | None
    spark: str
    """The loss curve as trusted markup; empty where losses were not tracked."""


def build_report(
    audit: AuditDirectory,
    *,
    show: Callable[[int], bytes],
    out: Path,
    gallery: int = 60,
) -> None:
    """Write the report of an audit: one HTML file that needs no network and no script.

    Args:
        audit: A finished audit, or one about to be published.
        show: Gives the picture of a row as an encoded image file, ``b""`` where it has none. A
            row whose picture cannot be had gets a placeholder.
        out: Where the file goes; it appears whole or not at all.
        gallery: How many of the worst samples are shown.

    Raises:
        OutputError: The file cannot be written, or a file of the audit is damaged.
        SettingsError: A package that the report needs is missing.
    """
    html = _environment().get_template("report.html").render(_page(audit, show, gallery)).lstrip()
    partial = out.with_name(f".{out.name}.partial")
    with guard_writes(out):
        partial.write_text(html, encoding="utf-8")
        partial.replace(out)


def _page(audit: AuditDirectory, show: Callable[[int], bytes], gallery: int) -> dict[str, Any]:
    columns = Columns(audit)
    pairs = sections.count_pairs(columns)
    table = sections.class_table(columns, pairs)
    cards = _cards(columns, show, gallery)
    script = _read("report.js")
    summary = audit.summary
    known = summary.get("planted") or {}
    return {
        "facts": sections.facts(audit, columns),
        "headline": sections.headline(audit, columns),
        "tiers": sections.tier_counts(columns),
        "warnings": [str(each) for each in summary.get("warnings") or []],
        "cards": cards,
        "flagged": int(columns.flagged.sum()),
        "has_pictures": any(card.picture for card in cards),
        "has_sparks": any(card.spark for card in cards),
        "classes": table[:_SHOWN_CLASSES],
        "more_classes": table[_SHOWN_CLASSES:],
        "widest": max((line.share for line in table), default=0.0) or 1.0,
        "some_dropped": bool(columns.dropped.any()),
        "pairs": pairs[:30],
        "num_pairs": len(pairs),
        "map": sections.confusion_map(columns, pairs),
        "losses": curves.loss_figures(columns),
        "training": curves.training_figures(columns) + reliability.reliability_figures(summary),
        "recipe_notes": recipe.recipe_notes(audit),
        "recipe_figures": recipe.recipe_figures(audit),
        "label_steps": recipe.label_steps(audit),
        "tests": sections.tests(audit),
        "planted": sections.planted(audit),
        "planted_rate": known.get("rate"),
        "before": known.get("label_accuracy_before"),
        "after": known.get("label_accuracy_after"),
        "version": str(summary.get("version") or ""),
        "noise": summary.get("noise") if isinstance(summary.get("noise"), str) else "",
        "unreadable": audit.unreadable[:_SHOWN_PROBLEMS],
        "num_unreadable": _count(summary.get("unreadable")) or len(audit.unreadable),
        "conflicts": _conflicts(audit),
        "num_conflicts": _count(summary.get("conflicts")),
        "command": sections.command_line(audit),
        "settings": (audit.path / "settings.toml").read_text("utf-8"),
        "num_classes": len(columns.classes),
        "chance": math.log(len(columns.classes)),
        "style": _read("report.css"),
        "script": script,
        "script_hash": _hash(script),
    }


def _cards(columns: Columns, show: Callable[[int], bytes], gallery: int) -> list[Card]:
    audit = columns.audit
    flagged = int(columns.flagged.sum())
    labelled = int(columns.labelled.sum())
    records = audit.worst(min(gallery, flagged if flagged else _CALM, labelled))
    typical = columns.typical_curve
    top = _top(records, typical)
    return [
        Card(record, picture_of(show, record.row), _spark(record, typical, top))
        for record in records
    ]


def _top(records: Sequence[SampleRecord], typical: Sequence[float]) -> float:
    losses = [loss for record in records for loss in record.curve] + list(typical)
    finite = [loss for loss in losses if words.is_number(loss)]
    # A percentile, so that one spike does not flatten every curve of the gallery.
    return max(float(np.percentile(finite, 99)), 1e-6) if finite else 1.0


def _spark(record: SampleRecord, typical: Sequence[float], top: float) -> str:
    finite = [loss for loss in record.curve if words.is_number(loss)]
    if len(finite) < 2:
        return ""
    label = f"Loss over {len(record.curve)} epochs, from {finite[0]:.2g} to {finite[-1]:.2g} nats"
    return figures.sparkline(record.curve, typical, top=top, label=label)


def _conflicts(audit: AuditDirectory) -> list[list[tuple[str, str]]]:
    """Name the rows of each group of equal samples with unlike labels, where they are listed."""
    told = audit.summary.get("conflicts")
    if not isinstance(told, list):
        return []
    records = [[audit.record(int(row)) for row in group] for group in told[:_SHOWN_PROBLEMS]]
    return [[(r.id, r.given or "unlabelled") for r in group] for group in records]


def _count(told: object) -> int:
    if isinstance(told, list):
        return len(told)
    return int(told) if isinstance(told, int | float) and words.is_number(told) else 0


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError:
        raise SettingsError(
            "package `jinja2` is missing; the report is made with it",
            hint="pip install 'errata[report]'",
        ) from None

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "likely": words.likely,
        "percent": words.percent,
        "whole": words.whole,
        "decimal": words.decimal,
        "is_number": words.is_number,
    }
    return environment


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _hash(script: str) -> str:
    """Name the script for the page's policy, under which no other script runs."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
