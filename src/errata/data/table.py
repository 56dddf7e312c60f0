"""Tables of image paths and labels: csv, tsv and parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from errata.data.classes import name_numbers
from errata.data.ids import check_ids, plain_text, text_id
from errata.data.pictures import FoundFiles
from errata.errors import SettingsError, SourceError

__all__ = ["read_columns", "read_table"]

_TRUTH = ("truth", "true_label")
_SPLITS = {
    "": "train",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def read_table(
    path: Path, *, name: str, images: Path | None = None, match: Sequence[str] | None = None
) -> FoundFiles:
    """Find the labelled images that a table lists.

    Columns: `image` (a path relative to the table or to `images`), `label`, optional `id` (by
    default the path as written), `split` (train, val or test; empty is train) and `truth` or
    `true_label` (for evaluation only). Labels are class names; an empty one or -1 means unlabelled.
    Rows keep the order of the table.

    Args:
        path: The table.
        name: How people refer to it.
        images: Where the paths of the column `image` start.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: The table cannot be read, lacks a column, or holds values that are not allowed.
    """
    columns = read_columns(path, needed=("image", "label"))
    where = f"`{text_id(str(path))}`"
    if images is not None and not images.is_dir():
        raise SourceError(
            f"`{text_id(str(images))}` is no folder; allowed: the folder where the paths of the "
            "table start"
        )
    start = path.parent if images is None else images
    rows = _split_rows(columns, where=where)
    if not rows["train"]:
        raise SourceError(
            f"{where} has no training rows; allowed: at least one row in each of two classes"
        )
    train = _found(columns, rows["train"], start=start, name=name, match=match, where=where)
    tests = {
        split: _found(
            columns,
            rows[split],
            start=start,
            name=f"{name} {split}",
            match=train.classes,
            where=f"{where}, split `{split}`",
        )
        for split in ("test", "val")
        if rows[split]
    }
    train.tests = tests
    truth = next((columns[column] for column in _TRUTH if column in columns), None)
    if truth is not None:
        true_labels = [plain_text(truth[row]) for row in rows["train"]]
        train.truth, _ = name_numbers(
            true_labels, ids=train.ids, match=train.classes, where=f"{where}, the true labels"
        )
    return train


def _found(
    columns: dict[str, list[str]],
    rows: list[int],
    *,
    start: Path,
    name: str,
    match: Sequence[str] | None,
    where: str,
) -> FoundFiles:
    paths = [columns["image"][row] for row in rows]
    if "" in paths:
        raise SourceError(
            f"{where} has an empty `image` in row {rows[paths.index('')]}; allowed: a path"
        )
    if "id" in columns:
        ids = check_ids([columns["id"][row] for row in rows], where=where)
    else:
        ids = _path_ids(paths, where=where)
    labels = [plain_text(columns["label"][row]) for row in rows]
    given, classes = name_numbers(labels, ids=ids, match=match, where=where)
    return FoundFiles([start / path for path in paths], given, classes=classes, ids=ids, name=name)


def _path_ids(paths: list[str], *, where: str) -> list[str]:
    try:
        return check_ids([text_id(path) for path in paths], where=where)
    except SourceError as error:
        # A picture may well be listed twice; then the rows need names of their own.
        raise SourceError(error.message, hint="add a column `id` with unique ids") from None


def _split_rows(columns: dict[str, list[str]], *, where: str) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    count = len(columns["label"])
    for row, cell in enumerate(columns.get("split", [""] * count)):
        if cell.strip().lower() not in _SPLITS:
            raise SourceError(
                f"{where} has the split `{text_id(cell)}` in row {row}; allowed: train, val, test"
            )
        rows[_SPLITS[cell.strip().lower()]].append(row)
    return rows


def read_columns(path: Path, *, needed: Sequence[str]) -> dict[str, list[str]]:
    """Read a csv, tsv or parquet table into columns of text, by lower-case column name.

    Csv files are UTF-8 or UTF-16, with or without a byte order mark; bytes that are no UTF-8 are
    kept as Python keeps them in file names. Whole numbers of a parquet file become their digits,
    missing values empty text.

    Args:
        path: The table; `.tsv` is separated by tabs, `.parquet` read by pyarrow, all else separated
            by commas.
        needed: Columns that have to be there.

    Raises:
        SourceError: The table cannot be read or lacks a column.
    """
    where = f"`{text_id(str(path))}`"
    if not path.is_file():
        raise SourceError(
            f"{where} is no file; allowed: a table with the columns {_listed(needed)}"
        )
    parquet = path.suffix.lower() == ".parquet"
    header, cells = _parquet(path, where) if parquet else _separated(path, where)
    missing = [column for column in needed if column not in header]
    if missing:
        raise SourceError(
            f"{where} has no column {_listed(missing)}; it has: {_listed(header) or 'none'}",
            hint=_hint(header, missing),
        )
    twice = [column for column in (*needed, "id", "split") if header.count(column) > 1]
    if twice:
        raise SourceError(f"{where} has two columns `{twice[0]}`; allowed: one")
    if not cells[0]:
        raise SourceError(f"{where} has no rows; allowed: at least one")
    return dict(zip(header, cells, strict=True))


def _hint(header: Sequence[str], missing: Sequence[str]) -> str:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        return "separate the columns by commas, or by tabs in a `.tsv` file"
    if missing == ["image"]:
        return "tables of features are not supported; save those as an npz file with `x` and `y`"
    return "name the columns in the first line"


def _separated(path: Path, where: str) -> tuple[list[str], list[list[str]]]:
    with path.open("rb") as raw:
        is_wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
    rows: list[list[str]] = []
    try:
        with path.open(
            newline="",
            encoding="utf-16" if is_wide else "utf-8-sig",
            errors="strict" if is_wide else "surrogateescape",
        ) as file:
            reader = csv.reader(
                file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
            )
            for cells in reader:
                if not cells:
                    continue
                if rows and len(cells) != len(rows[0]):
                    raise SourceError(
                        f"{where} has {len(cells)} cells in the row that ends in line "
                        f"{reader.line_num}; "
                        f"allowed: {len(rows[0])}, as in the first line",
                        hint="put cells that hold the separator between double quotes",
                    )
                rows.append(cells)
    except (csv.Error, UnicodeError) as error:
        raise SourceError(f"{where} cannot be read as a table: {error}") from error
    if not rows:
        raise SourceError(f"{where} is empty; allowed: a first line with column names, then rows")
    header = [cell.strip().lower() for cell in rows[0]]
    return header, [[row[place] for row in rows[1:]] for place in range(len(header))]


def _parquet(path: Path, where: str) -> tuple[list[str], list[list[str]]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise SettingsError(
            "parquet tables need pyarrow, which is not installed",
            hint="run `pip install 'errata[tables]'`, or save the table as csv",
        ) from None
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise SourceError(f"{where} cannot be read as a parquet table: {error}") from error
    header = [str(column).strip().lower() for column in table.column_names]
    if not header:
        raise SourceError(f"{where} has no columns; allowed: at least one")
    return header, [[_as_text(cell) for cell in column.to_pylist()] for column in table.columns]


def _as_text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, float) and math.isfinite(cell) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{text_id(name)}`" for name in names)
