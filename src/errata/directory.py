"""The audit directory: one audit as plain files, written and read."""

from __future__ import annotations

import csv
import difflib
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errata.errors import OutputError, SettingsError, unknown_name
from errata.issues import TIERS, Issues, read_issues, write_issues
from errata.ledger import Ledger
from errata.record import SampleRecord
from errata.staging import (
    check_out,
    damaged,
    guard_writes,
    is_audit,
    partial_of,
    publish,
    read_settings,
    staging,
)
from errata.writing import (
    FORMAT,
    write_memory,
    write_settings,
    write_summary,
    write_unreadable,
)

__all__ = [
    "FORMAT",
    "AuditDirectory",
    "check_out",
    "guard_writes",
    "publish",
    "staging",
    "write_issues",
    "write_memory",
    "write_settings",
    "write_summary",
    "write_unreadable",
]


class AuditDirectory:
    """A finished audit, read when asked for.

    Example:
        >>> audit = AuditDirectory.open("audit")  # doctest: +SKIP
        >>> for record in audit.worst(3):  # doctest: +SKIP
        ...     print(record.id, record.given, record.proposed)
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings

    @classmethod
    def open(cls, path: str | Path) -> AuditDirectory:
        """Open an audit.

        Raises:
            OutputError: There is none, or it has a layout that this version cannot read.
        """
        place = Path(path)
        partial = partial_of(place)
        if not place.exists():
            hint = "run `errata audit` first, or give the directory that --out named"
            if partial.exists():
                hint = f"an unfinished one lies in `{partial}`; finish it with --resume"
            raise OutputError(f"audit `{path}` does not exist", hint=hint)
        if not place.is_dir() or not is_audit(place):
            raise OutputError(
                f"`{path}` is not an audit; an audit holds `settings.toml` and `ledger/`",
                hint="give the directory that --out named",
            )
        settings = read_settings(place)
        version = settings.get("format", FORMAT)
        if version != FORMAT:
            age = "a newer" if isinstance(version, int) and version > FORMAT else "another"
            raise OutputError(
                f"audit `{path}` has layout `{version}`, written by {age} version of errata; "
                f"this one reads layout {FORMAT}",
                hint="read it with the version named in its `settings.toml`, or audit again",
            )
        return cls(place, settings)

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` printed."""
        path = self.path / "summary.json"
        try:
            summary = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(path, error) from None
        if not isinstance(summary, dict):
            raise damaged(path, "no JSON object")
        return summary

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger, memory-mapped."""
        return Ledger.load(self.path / "ledger", memmap=True)

    @functools.cached_property
    def issues(self) -> Issues:
        """The columns of ``issues.csv``, worst row first."""
        return read_issues(self.path / "issues.csv", self.ledger.ids, self.ledger.classes)

    @functools.cached_property
    def log(self) -> list[dict[str, Any]]:
        """One object per epoch; empty where nothing was trained."""
        path = self.path / "log.jsonl"
        if not path.exists():
            return []
        lines = path.read_text("utf-8").split("\n")
        try:
            return [json.loads(line) for line in lines if line.strip()]
        except ValueError as error:
            raise damaged(path, error) from None

    @functools.cached_property
    def memory(self) -> dict[str, np.ndarray]:
        """What the run remembered beside its rows, such as an estimated transition matrix."""
        files = sorted((self.path / "memory").glob("*.npy"))
        return {file.stem: np.load(file, allow_pickle=False) for file in files}

    @functools.cached_property
    def unreadable(self) -> list[dict[str, str]]:
        """Samples that could not be read, each with ``id``, ``path`` and ``why``."""
        path = self.path / "unreadable.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def row(self, key: int | str) -> int:
        """Find the row of an id; a number is a row already.

        Raises:
            SettingsError: No sample has this id or row.
        """
        if isinstance(key, str):
            found = self._row_of.get(key)
            if found is None:
                raise self._unknown_id(key)
            return found
        if not 0 <= key < self.ledger.num_rows:
            raise SettingsError(
                f"row `{key}` is not in this audit; allowed: 0 to {self.ledger.num_rows - 1}",
                hint="rows count from 0; give the id as text to find a sample by its id",
            )
        return int(key)

    def record(self, key: int | str) -> SampleRecord:
        """Collect what is known about one sample.

        Args:
            key: A row, or an id as text.

        Raises:
            SettingsError: No sample has this id or row.
        """
        row, ledger, issues = self.row(key), self.ledger, self.issues
        place = int(issues.places[row])
        proposed = int(issues.proposed[place])
        given = int(ledger.given[row])
        return SampleRecord(
            id=str(ledger.ids[row]),
            row=row,
            given=ledger.classes[given] if given >= 0 else None,
            proposed=ledger.classes[proposed] if proposed >= 0 else None,
            suspicion=float(issues.suspicion[place]),
            p_wrong=float(issues.p_wrong[place]),
            p_proposed=float(issues.p_proposed[place]),
            flagged=bool(issues.flagged[place]),
            tier=str(issues.tier[place]),
            reasons=issues.reasons(place),
            curve=self._curve(row),
            neighbours=self._neighbours(row),
        )

    def worst(
        self,
        n: int,
        *,
        given: str | None = None,
        proposed: str | None = None,
        tier: str | None = None,
    ) -> list[SampleRecord]:
        """Collect the `n` most suspicious samples, worst first, of those that fit the filters.

        Args:
            n: How many at most, 0 or more.
            given: Only samples with this label, by the name of the class.
            proposed: Only samples for which this class is proposed.
            tier: Only samples of this tier: ``obvious``, ``possible`` or ``fine``.

        Raises:
            SettingsError: No class or tier has this name.
        """
        issues = self.issues
        fits = np.ones(len(issues.rows), dtype=bool)
        if given is not None:
            fits &= np.asarray(self.ledger.given)[issues.rows] == self._class(given)
        if proposed is not None:
            fits &= issues.proposed == self._class(proposed)
        if tier is not None:
            if tier not in TIERS:
                raise unknown_name("tier", tier, TIERS)
            fits &= issues.tier == tier
        return [self.record(int(row)) for row in issues.rows[fits][: max(n, 0)]]

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {str(key): row for row, key in enumerate(self.ledger.ids)}

    def _class(self, name: str) -> int:
        if name not in self.ledger.classes:
            raise unknown_name("class", name, self.ledger.classes)
        return self.ledger.classes.index(name)

    def _curve(self, row: int) -> tuple[float, ...]:
        if not self.ledger.has("loss_curve"):
            return ()
        here = torch.tensor([row])
        filled = int(self.ledger.filled("loss_curve", here)[0])
        losses = self.ledger.read("loss_curve", here)[0]
        return tuple(losses[len(losses) - filled :].double().tolist())

    def _neighbours(self, row: int) -> tuple[int, ...]:
        if not self.ledger.has("neighbours"):
            return ()
        found = self.ledger.read("neighbours", torch.tensor([row]))[0]
        return tuple(int(other) for other in found.tolist() if other >= 0)

    def _unknown_id(self, key: str) -> SettingsError:
        ids = self._row_of
        # People often give the file name alone, which no edit distance finds in long paths.
        near = [name for name in ids if name.endswith("/" + key.rsplit("/", 1)[-1])][:3]
        near = near or difflib.get_close_matches(key, ids, n=3, cutoff=0.6)
        hint = "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
        first = next(iter(ids), "")
        return SettingsError(
            f"id `{key}` is not among the {len(ids):,} ids of audit `{self.path}`",
            hint=hint if near else f"ids here look like `{first}`; `issues.csv` lists them all",
        )
