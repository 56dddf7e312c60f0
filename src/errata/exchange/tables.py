"""Tables of text and numbers as csv or parquet files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.errors import SettingsError
from errata.staging import guard_writes

__all__ = ["SUFFIXES", "check_table", "write_table"]

SUFFIXES = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Refuse early what `write_table` cannot write.

    Raises:
        SettingsError: The suffix is neither ``.csv`` nor ``.parquet``, or pyarrow is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SettingsError(
            f"`{path}` ends in `{path.suffix}`; allowed: `.csv` or `.parquet`",
            hint=f"write for example `{path.with_suffix('.csv')}`",
        )
    if suffix == ".parquet":
        _parquet()


def write_table(
    place: Path, columns: Mapping[str, Sequence[str | int | float]], *, suffix: str
) -> None:
    """Write columns of equal length.

    Args:
        place: The file to write, such as what `together` gives.
        columns: By name, in order.
        suffix: ``.csv`` or ``.parquet``, of the final name.

    Raises:
        SettingsError: The package for parquet files is missing.
        OutputError: The file cannot be written.
    """
    with guard_writes(place):
        if suffix.lower() == ".parquet":
            import pyarrow as pa

            _parquet().write_table(pa.table({k: list(v) for k, v in columns.items()}), place)
        else:
            _write_csv(place, columns)


def _write_csv(path: Path, columns: Mapping[str, Sequence[str | int | float]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        # Python 3.11 leaves a lone carriage return unquoted, and readers take it for a line end.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for cells in zip(*columns.values(), strict=True):
            strange = any(isinstance(cell, str) and "\r" in cell for cell in cells)
            (quoting if strange else plain).writerow(cells)


def _parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise SettingsError(
            "package `pyarrow` is missing; parquet files are written with it",
            hint="pip install 'errata[tables]', or write a csv file",
        ) from None
    return pq
