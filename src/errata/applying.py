"""From an audit and its verdicts to corrected labels on disk: decide, say what to expect, write.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import errata
from errata.correct.corrections import POLICIES, SOURCES, Corrections, correct
from errata.correct.lineage import Earlier, earlier_round, origin_name, write_origin
from errata.directory import AuditDirectory
from errata.errors import SettingsError, unknown_name
from errata.exchange.folders import Listed, list_audited, plan_links, write_links
from errata.exchange.outputs import check_copy, check_tables, source_of
from errata.exchange.tables import write_table
from errata.exchange.together import together
from errata.review.standing import Current, settle, standing
from errata.review.verdicts import Ruling

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Applied", "Outputs", "apply", "prepare"]


@dataclass(frozen=True)
class Outputs:
    """Where corrected labels go.

    Attributes:
        labels: The csv or parquet file of labels.
        verified: Another one, of the labels that people gave; None writes none.
        copy: A corrected copy of the class folders, made of links; None makes none.
    """

    labels: Path
    verified: Path | None = None
    copy: Path | None = None


@dataclass(frozen=True)
class Applied:
    """Corrected labels of an audit.

    Attributes:
        audit: Where they come from.
        corrections: Labels, weights and sources in the order of the rows, and what to expect.
        judged: What people decided, by row, in this round and before.
        verdicts: [N] number of verdicts that stand, those of earlier rounds included.
        reviewed: On how many rows people have decided in this round.
        outputs: Where they go.
        listed: The class folders to copy; None makes no copy.
    """

    audit: AuditDirectory
    corrections: Corrections
    judged: Mapping[int, Ruling]
    verdicts: np.ndarray
    reviewed: int
    outputs: Outputs
    listed: Listed | None = None

    @property
    def changed(self) -> int:
        """How many labels are others than given, dropped rows left out."""
        found, given = self.corrections, np.asarray(self.audit.ledger.given)
        return int(((found.label != given) & (found.weight > 0)).sum())

    @property
    def dropped(self) -> int:
        """How many rows weigh nothing."""
        return int((self.corrections.weight == 0).sum())

    def write(self) -> None:
        """Write all outputs; where one of them cannot be written, none appears.

        Raises:
            OutputError: A place cannot be written.
        """
        labels, verified, copy = self.outputs.labels, self.outputs.verified, self.outputs.copy
        counts = {"changed": self.changed, "dropped": self.dropped}
        with together() as sibling:
            if copy is not None and self.listed is not None:
                plan = plan_links(self.listed.files, self.listed.start, self._places())
                write_links(sibling(copy), self.listed, plan)
            if verified is not None:
                write_table(sibling(verified), self._verified(), suffix=verified.suffix)
            write_origin(sibling(origin_name(labels)), labels, self.audit, **counts)
            write_table(sibling(labels), self._labels(), suffix=labels.suffix)

    def as_json(self) -> dict[str, Any]:
        """Give the object that ``--json`` prints."""
        found, outputs = self.corrections, self.outputs
        return {
            "command": "apply",
            "version": errata.__version__,
            "rows": len(found.label),
            "changed": self.changed,
            "dropped": self.dropped,
            "by_source": {name: int((found.source == name).sum()) for name in SOURCES},
            "reviewed": self.reviewed,
            "expected_gain": {
                **found.gain._asdict(),
                "people": found.people,
                "model": found.model and found.model._asdict(),
            },
            "precision": found.precision and found.precision._asdict(),
            "proposals": found.proposals,
            "checked": found.checked,
            "refused": list(found.refused),
            "source": str(source_of(self.audit).get("spec", "")),
            "out": str(outputs.labels),
            "verified_out": None if outputs.verified is None else str(outputs.verified),
            "copy": None if outputs.copy is None else str(outputs.copy),
        }

    def _labels(self) -> dict[str, Sequence[str | int | float]]:
        ledger, found = self.audit.ledger, self.corrections
        names = [*map(str, ledger.classes), ""]
        return {
            "id": [str(key) for key in ledger.ids],
            "label": [names[number] for number in found.label.tolist()],
            "weight": [int(w) if w == int(w) else w for w in found.weight.tolist()],
            "source": [str(each) for each in found.source.tolist()],
            "given": [names[int(number)] for number in ledger.given],
            "verdicts": self.verdicts.tolist(),
        }

    def _verified(self) -> dict[str, Sequence[str | int | float]]:
        ids, classes = self.audit.ledger.ids, self.audit.ledger.classes
        chosen = _vouched(self.judged, self.corrections.label)
        return {
            "id": [str(ids[row]) for row in chosen],
            "label": [str(classes[int(self.corrections.label[row])]) for row in chosen],
        }

    def _places(self) -> dict[str, str | None]:
        names: list[str | None] = [*map(str, self.audit.ledger.classes), None]
        found = self.corrections
        rows = zip(self.audit.ledger.ids, found.label.tolist(), found.weight.tolist(), strict=True)
        return {str(key): names[number] if weight else None for key, number, weight in rows}


def apply(
    audit: str | Path,
    *,
    out: str | Path = "labels.csv",
    auto_above: float = 0.95,
    drop_above: float | None = None,
    verified: str | Path | None = None,
    copy: str | Path | None = None,
) -> Applied:
    """Write corrected labels of an audit: people first, then the model, then as given.

    Args:
        audit: The audit directory.
        out: The csv or parquet file of labels.
        auto_above: Take the model's proposal above this probability of being right; 1 is off.
        drop_above: Drop rows above this probability of being wrong; None drops none.
        verified: Write the labels that people gave, too, for ``verified`` of a training.
        copy: Make a corrected copy of the class folders here, of links.

    Returns:
        The corrections that were written, with what to expect of them.

    Raises:
        ErrataError: The audit, a level or a place is not usable; nothing was written then.
    """
    outputs = Outputs(
        Path(out),
        None if verified is None else Path(verified),
        None if copy is None else Path(copy),
    )
    applied = prepare(
        AuditDirectory.open(audit), outputs, auto_above=auto_above, drop_above=drop_above
    )
    applied.write()
    return applied


def prepare(
    audit: AuditDirectory,
    outputs: Outputs,
    *,
    policy: str = "human-first",
    auto_above: float = 0.95,
    drop_above: float | None = None,
) -> Applied:
    """Decide every row and check every place, and write nothing yet.

    What people decided in earlier rounds, as the label file of the audit tells, counts like a
    verdict unless somebody judged the row again; weights of that file stay.

    Raises:
        ErrataError: The audit, a level or a place is not usable.
    """
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES)
    check_tables(audit, outputs.labels, outputs.verified)
    listed = None
    if outputs.copy is not None:
        listed = list_audited(audit)
        check_copy(outputs.copy, listed.root)
    given = np.asarray(audit.ledger.given, dtype=np.int64)
    current = standing(audit)
    rulings = settle(current, given, audit.ledger.classes)
    earlier = earlier_round(audit)
    judged = _before(earlier) | rulings
    found = _decide(audit, judged, auto_above=auto_above, drop_above=drop_above)
    if outputs.verified is not None and not _vouched(judged, found.label):
        raise SettingsError(
            f"--verified-out `{outputs.verified}` would be empty: nobody has given a label of "
            "this audit",
            hint=f"run `errata review {audit.path}` first, or leave --verified-out out",
        )
    return Applied(
        audit,
        _weighed(found, earlier, rulings),
        judged,
        _counts(current, earlier, len(given)),
        len(current),
        outputs,
        listed,
    )


def _decide(
    audit: AuditDirectory,
    judged: Mapping[int, Ruling],
    *,
    auto_above: float,
    drop_above: float | None,
) -> Corrections:
    issues, here = audit.issues, audit.issues.places
    return correct(
        np.asarray(audit.ledger.given, dtype=np.int64),
        issues.proposed[here],
        issues.p_wrong[here],
        issues.p_proposed[here],
        judged=judged,
        classes=audit.ledger.classes,
        auto_above=auto_above,
        drop_above=drop_above,
    )


def _before(earlier: Earlier | None) -> dict[int, Ruling]:
    if earlier is None:
        return {}
    return {
        row: Ruling("keep" if earlier.weight[row] > 0 else "drop", None, (), 0)
        for row in np.flatnonzero(earlier.human).tolist()
    }


def _weighed(
    found: Corrections, earlier: Earlier | None, rulings: Mapping[int, Ruling]
) -> Corrections:
    """Keep the weights of the label file where nobody decided the row again."""
    if earlier is None:
        return found
    again = np.zeros(len(found.weight), dtype=bool)
    again[[row for row, ruling in rulings.items() if ruling.verdict != "unsure"]] = True
    return replace(found, weight=np.where(again, found.weight, found.weight * earlier.weight))


def _counts(current: Current, earlier: Earlier | None, rows: int) -> np.ndarray:
    counts = np.zeros(rows, dtype=np.int64) if earlier is None else earlier.verdicts.copy()
    for row, by in current.items():
        counts[row] += len(by)
    return counts


def _vouched(judged: Mapping[int, Ruling], label: np.ndarray) -> list[int]:
    """List the rows whose label a person gave or confirmed."""
    return sorted(
        row
        for row, ruling in judged.items()
        if ruling.verdict in ("keep", "relabel") and label[row] >= 0
    )
