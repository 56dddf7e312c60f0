"""How audits follow each other: where a label file comes from, and what it says of earlier rounds.

``errata apply`` writes a small file beside the corrected labels, ``labels.csv.origin.json``, that
names the audit they come from.

Shapes: N rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from errata.directory import AuditDirectory
from errata.errors import ErrataError
from errata.staging import guard_writes

__all__ = [
    "Earlier",
    "Origin",
    "earlier_round",
    "moved_facts",
    "origin_name",
    "parent_of",
    "read_origin",
    "write_origin",
]


@dataclass(frozen=True)
class Origin:
    """Which audit a label file was made from."""

    audit: str
    """Its directory, relative to the label file."""
    fingerprint: str
    """Of the ids and given labels of that audit."""
    changed: int
    """Labels that were changed."""
    dropped: int
    """Rows that were dropped."""


@dataclass(frozen=True)
class Earlier:
    """What the label file of an audit says of its rows, from the round before.

    Attributes:
        human: [N] bool: people decided the label.
        weight: [N] weights, 0 for a dropped row.
        verdicts: [N] number of verdicts it rests on.
    """

    human: np.ndarray
    weight: np.ndarray
    verdicts: np.ndarray


def origin_name(labels: Path) -> Path:
    """Name the file beside corrected labels that tells where they come from."""
    return labels.with_name(f"{labels.name}.origin.json")


def write_origin(place: Path, labels: Path, audit: AuditDirectory, **counts: int) -> None:
    """Write which audit a label file comes from.

    Args:
        place: The file to write.
        labels: The final name of the label file.
        audit: Where its labels come from.
        counts: ``changed`` and ``dropped``.

    Raises:
        OutputError: It cannot be written.
    """
    origin = {
        "audit": os.path.relpath(audit.path.resolve(), labels.resolve().parent),
        "fingerprint": str(audit.settings.get("fingerprint", "")),
        **counts,
    }
    with guard_writes(place):
        place.write_text(json.dumps(origin, indent=2) + "\n", "utf-8")


def read_origin(labels: Path) -> Origin | None:
    """Read where a label file comes from; None where nothing, or nothing of ours, tells it."""
    try:
        told = json.loads(origin_name(labels).read_text("utf-8"))
        return Origin(
            str(told["audit"]), str(told["fingerprint"]), int(told["changed"]), int(told["dropped"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def earlier_round(audit: AuditDirectory) -> Earlier | None:
    """Read what people decided before this audit, from the label file it was made with.

    Rows whose given label is another one than in the file, such as after planted noise, say
    nothing. Tables without the columns that ``errata apply`` writes say nothing either.

    Returns:
        None where the audit was made without a label file, or the file is gone or has changed.
    """
    source = audit.settings.get("source")
    labels = source.get("labels") if isinstance(source, Mapping) else None
    if not labels or not Path(labels).is_file():
        return None
    from errata.data.table import read_columns

    try:
        columns = read_columns(Path(labels), needed=("id", "label", "source", "weight"))
        return _earlier(columns, audit)
    except (ErrataError, ValueError):
        return None


def moved_facts(audit: AuditDirectory) -> list[tuple[str, str]]:
    """Say what moved between the parent of an audit and the audit itself, as name and value.

    Samples are matched by id. Where the parent is not where it was, or holds other data now, its
    name and what was changed are all that is told.

    Args:
        audit: An audit whose summary names a ``parent``; others have nothing to say.
    """
    link = audit.summary.get("parent")
    if not isinstance(link, Mapping):
        return []
    facts = [
        ("parent", str(link.get("audit"))),
        ("labels changed since", f"{link.get('changed')}, and {link.get('dropped')} rows dropped"),
    ]
    try:
        parent = AuditDirectory.open(str(link.get("audit")))
        if parent.settings.get("fingerprint") != link.get("fingerprint"):
            return facts
        return facts + _moved(parent, audit)
    except ErrataError:
        return facts


def _moved(parent: AuditDirectory, audit: AuditDirectory) -> list[tuple[str, str]]:
    before, now = _suspects(parent), _suspects(audit)
    shared = set(map(str, parent.ledger.ids)) & set(map(str, audit.ledger.ids))
    settled, new = len((before - now) & shared), len((now - before) & shared)
    facts = [
        (
            "suspects",
            f"{len(before):,} before, {len(now):,} now: {settled:,} settled, {new:,} new",
        )
    ]
    pairs = (
        ("estimated share wrong", "noise_rate", "estimate"),
        ("test accuracy", "test", "accuracy"),
    )
    for name, key, inner in pairs:
        first, second = ((each.summary.get(key) or {}).get(inner) for each in (parent, audit))
        if isinstance(first, int | float) and isinstance(second, int | float):
            facts.append((name, f"{100 * first:.1f} % before, {100 * second:.1f} % now"))
    return facts


def _suspects(audit: AuditDirectory) -> set[str]:
    issues = audit.issues
    return {str(audit.ledger.ids[row]) for row in issues.rows[issues.flagged].tolist()}


def _earlier(columns: dict[str, list[str]], audit: AuditDirectory) -> Earlier:
    from errata.data.ids import text_id

    ledger = audit.ledger
    row_of = {str(key): row for row, key in enumerate(ledger.ids)}
    names = [*map(str, ledger.classes), ""]
    found = Earlier(
        np.zeros(ledger.num_rows, dtype=bool),
        np.ones(ledger.num_rows),
        np.zeros(ledger.num_rows, dtype=np.int64),
    )
    counts = columns.get("verdicts", ["0"] * len(columns["id"]))
    cells = zip(
        *(columns[name] for name in ("id", "label", "source", "weight")), counts, strict=True
    )
    for key, label, who, weight, count in cells:
        row = row_of.get(key, row_of.get(text_id(key), -1))
        if row < 0 or label != names[int(ledger.given[row])]:
            continue
        found.human[row] = who == "human"
        found.weight[row] = float(weight or 1)
        found.verdicts[row] = int(count or 0)
    return found


def parent_of(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name the audit that the labels of a run come from; None where nothing tells it.

    Args:
        settings: The tree of a run's settings, as in ``settings.toml``.
    """
    source = settings.get("source")
    labels = source.get("labels") if isinstance(source, Mapping) else None
    origin = read_origin(Path(labels)) if labels else None
    if labels is None or origin is None:
        return None
    return {
        "audit": os.path.normpath(Path(labels).parent / origin.audit),
        "fingerprint": origin.fingerprint,
        "changed": origin.changed,
        "dropped": origin.dropped,
    }
