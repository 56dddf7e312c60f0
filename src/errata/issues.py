"""The table of issues: what an audit says of every row, worst first, as a csv file.

Shapes: N rows.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from errata.errors import OutputError
from errata.record import Reason
from errata.staging import guard_writes

__all__ = ["HEADER", "TIERS", "Findings", "Issues", "read_issues", "worst_first", "write_issues"]

HEADER = (
    "id",
    "given",
    "proposed",
    "suspicion",
    "p_wrong",
    "p_proposed",
    "flagged",
    "tier",
    "reasons",
)
TIERS = ("obvious", "possible", "fine")
MOST_REASONS = 2000
"""Reasons are for people, and nobody reads more of them; making them is the slow part."""
_READ_AT_ONCE = 500
"""Lines, few enough to stay near the processor; 20,000 at once take three times as long."""

# `margin -3.1: negative in 27 of 30 epochs`, several of them joined by `; `.
_REASON = re.compile(r"(?P<kind>[a-z][a-z0-9_-]*)(?: (?P<value>[-+.\w]+))?: (?P<text>.*)", re.S)
_BETWEEN = re.compile(r"; (?=[a-z][a-z0-9_-]*(?: [-+.\w]+)?: )")


class Findings(Protocol):
    """What is read from `errata.detect.Findings`: arrays [N] in row order."""

    @property
    def suspicion(self) -> np.ndarray:
        """Float in 0 to 1; NaN where the row has no label."""
        ...

    @property
    def p_wrong(self) -> np.ndarray:
        """Float in 0 to 1, or NaN."""
        ...

    @property
    def p_proposed(self) -> np.ndarray:
        """Float in 0 to 1, or NaN."""
        ...

    @property
    def flagged(self) -> np.ndarray:
        """Bool."""
        ...

    @property
    def proposed(self) -> np.ndarray:
        """Class number; -1 is none."""
        ...

    @property
    def tier(self) -> np.ndarray:
        """One of `TIERS`."""
        ...

    def reasons(self, row: int) -> tuple[Reason, ...]:
        """Say why a row is suspicious."""
        ...


@dataclass(frozen=True)
class Issues:
    """The columns of an issues file. Position 0 is the worst row."""

    rows: np.ndarray
    """[N] int64: which row of the source each position is."""
    proposed: np.ndarray
    """[N] int64 class numbers; -1 is none."""
    suspicion: np.ndarray
    """[N] float64 in 0 to 1; NaN where the cell is empty. The same for the next two."""
    p_wrong: np.ndarray
    p_proposed: np.ndarray
    flagged: np.ndarray
    """[N] bool."""
    tier: np.ndarray
    """[N] text, each one of `TIERS`."""
    texts: tuple[str, ...]
    """[N] the cells of the reasons; empty for all but the worst flagged rows."""

    @functools.cached_property
    def places(self) -> np.ndarray:
        """[N] int64: the position of each row of the source."""
        places = np.empty_like(self.rows)
        places[self.rows] = np.arange(len(self.rows))
        return places

    def reasons(self, position: int) -> tuple[Reason, ...]:
        """Give the reasons written at one position."""
        return parse_reasons(self.texts[position])


def worst_first(suspicion: np.ndarray) -> np.ndarray:
    """Order rows [N] by falling suspicion, ties by row; rows without one come last.

    Example:
        >>> worst_first(np.array([0.1, np.nan, 0.9, 0.9])).tolist()
        [2, 3, 0, 1]
    """
    return np.argsort(-np.asarray(suspicion, dtype=np.float64), kind="stable")


def write_issues(
    path: Path,
    ids: Sequence[str],
    classes: Sequence[str],
    given: np.ndarray,
    findings: Findings,
) -> None:
    """Write one line per row, worst first; the same findings give the same bytes.

    Ids stay exactly as the user has them, because they are the keys that join this file to other
    data. A spreadsheet may therefore take an id that starts with ``=``, ``+``, ``-`` or ``@`` for
    a formula: import the file with that column as text, rather than opening it by double click.

    Reasons are written for flagged rows, at most for the 2,000 worst; other cells are empty. A
    cell reads ``kind value: text; kind value: text``.

    Args:
        path: Where the file goes; it appears whole or not at all.
        ids: [N] keys.
        classes: Names of the classes, by number.
        given: [N] class numbers as delivered; -1 is unlabelled and written as an empty cell.
        findings: What the detection decided. NaN becomes an empty cell.

    Raises:
        OutputError: The file cannot be written.
    """
    order = worst_first(findings.suspicion)
    flagged = np.asarray(findings.flagged, dtype=bool)[order]
    explained = set(order[flagged][:MOST_REASONS].tolist())
    columns = zip(
        order.tolist(),
        np.asarray(given)[order].tolist(),
        np.asarray(findings.proposed)[order].tolist(),
        _six_decimals(findings.suspicion, order),
        _six_decimals(findings.p_wrong, order),
        _six_decimals(findings.p_proposed, order),
        ["true" if flag else "false" for flag in flagged.tolist()],
        [str(tier) for tier in np.asarray(findings.tier)[order].tolist()],
        strict=True,
    )
    partial = path.with_name(path.name + ".partial")
    with guard_writes(path), partial.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        # Python 3.11 leaves a lone carriage return unquoted, and readers take it for a line end.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(HEADER)
        for row, label, better, *rest in columns:
            reasons = format_reasons(findings.reasons(row)) if row in explained else ""
            cells = [ids[row], _name(classes, label), _name(classes, better), *rest, reasons]
            (quoting if "\r" in "".join(cells) else plain).writerow(cells)
    with guard_writes(path):
        partial.replace(path)


def read_issues(path: Path, ids: Sequence[str], classes: Sequence[str]) -> Issues:
    """Read what `write_issues` wrote.

    Args:
        path: The csv file.
        ids: [N] keys in row order, as the ledger has them.
        classes: Names of the classes, by number.

    Raises:
        OutputError: The file is missing, has other columns, or does not fit the ids.
    """
    if not path.is_file():
        raise OutputError(f"`{path}` is missing", hint="run `errata audit` again")
    row_of = {key: row for row, key in enumerate(ids)}
    number_of = {name: number for number, name in enumerate(classes)} | {"": -1}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            if tuple(next(lines, ())) != HEADER:
                raise ValueError(f"its first line is not `{','.join(HEADER)}`")
            parts = [_read_part(lines, row_of, number_of)]
            while len(parts[-1].rows):
                parts.append(_read_part(lines, row_of, number_of))
    except KeyError as error:
        with path.open(encoding="utf-8", newline="") as file:
            _check_length(path, sum(1 for _ in csv.reader(file)) - 1, len(ids))
        raise _changed(path, f"`{error.args[0]}` is neither a known id nor a class") from None
    except ValueError as error:
        raise _changed(path, str(error)) from None
    issues = _joined(parts)
    _check_length(path, len(issues.rows), len(ids))
    if not np.bincount(issues.rows, minlength=len(ids)).all():
        raise _changed(path, "an id appears twice")
    return issues


def format_reasons(reasons: Sequence[Reason]) -> str:
    """Write reasons into one cell.

    Example:
        >>> format_reasons([Reason("margin", -3.1, "low"), Reason("dropped", math.nan, "by odd")])
        'margin -3.1: low; dropped: by odd'
    """
    return "; ".join(
        (
            f"{reason.kind} {reason.value:.4g}: "
            if math.isfinite(reason.value)
            else reason.kind + ": "
        )
        # `; ` stands between reasons, so it may not stand inside one.
        + reason.text.replace("; ", ", ")
        for reason in reasons
    )


def parse_reasons(cell: str) -> tuple[Reason, ...]:
    """Read the reasons of one cell; text in no known form becomes a reason without a kind.

    Example:
        >>> parse_reasons("margin -3.1: low; dropped: by odd")[0]
        Reason(kind='margin', value=-3.1, text='low')
    """
    if not cell:
        return ()
    return tuple(_parse_reason(part) for part in _BETWEEN.split(cell))


def _parse_reason(part: str) -> Reason:
    found = _REASON.fullmatch(part)
    try:
        value = math.nan if found is None or not found["value"] else float(found["value"])
    except ValueError:
        found = None
    if found is None:
        return Reason("", math.nan, part)
    return Reason(found["kind"], value, found["text"])


def _six_decimals(values: np.ndarray, order: np.ndarray) -> list[str]:
    ordered = np.asarray(values, dtype=np.float64)[order].tolist()
    return ["" if math.isnan(value) else f"{value:.6f}" for value in ordered]


def _name(classes: Sequence[str], number: int) -> str:
    return classes[number] if number >= 0 else ""


def _read_part(
    lines: Iterator[list[str]], row_of: Mapping[str, int], number_of: Mapping[str, int]
) -> Issues:
    """Turn the next lines into columns; none of them are left behind as objects.

    Raises:
        KeyError: An id or a class is unknown.
        ValueError: A line cannot be read.
    """
    cells = list(itertools.islice(lines, _READ_AT_ONCE))
    if any(len(line) != len(HEADER) for line in cells):
        raise ValueError("a line has another number of columns")
    keys, _, better, suspicion, p_wrong, p_proposed, flagged, tier, texts = (
        zip(*cells, strict=True) if cells else ((),) * len(HEADER)
    )
    if not set(tier) <= set(TIERS):
        raise ValueError("a tier is unknown")
    return Issues(
        rows=np.array([row_of[key] for key in keys], dtype=np.int64),
        proposed=np.array([number_of[name] for name in better], dtype=np.int64),
        suspicion=_floats(suspicion),
        p_wrong=_floats(p_wrong),
        p_proposed=_floats(p_proposed),
        flagged=np.array([flag == "true" for flag in flagged], dtype=bool),
        tier=np.array(tier, dtype=np.str_),
        texts=tuple(texts),
    )


def _joined(parts: Sequence[Issues]) -> Issues:
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(Issues)
        if field.name != "texts"
    }
    return Issues(**columns, texts=tuple(itertools.chain(*(part.texts for part in parts))))


def _floats(cells: Sequence[Any]) -> np.ndarray:
    return np.array([float(cell) if cell else math.nan for cell in cells], dtype=np.float64)


def _check_length(path: Path, found: int, rows: int) -> None:
    if found != rows:
        raise _changed(path, f"it has {found:,} rows and the ledger {rows:,}")


def _changed(path: Path, what: str) -> OutputError:
    return OutputError(
        f"`{path}` does not fit its audit: {what}",
        hint="the file was changed after the audit; restore it, or run `errata audit` again",
    )
