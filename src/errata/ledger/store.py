r"""The ledger on disk: a directory of plain files that numpy alone can read.

    schema.json         format version, classes, number of rows, fingerprint, columns
    ids.txt             UTF-8, one id per line, each line ended by a line feed
    given.npy           [N] int64
    COLUMN.npy          [N, ...], or [N, keep, ...] for a ring, oldest entry first
    COLUMN.filled.npy   [N] int32 entries held per row; not for sums

In `ids.txt` a backslash is written as two, a line feed as ``\n``, a carriage return as ``\r``,
and a lone surrogate (a byte of a file name that is no text) as ``\uXXXX``; every str comes back.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from errata.errors import LedgerError, OutputError
from errata.ledger.cells import Cells, cells_of
from errata.ledger.columns import DTYPES, VOCABULARY, Column
from errata.ledger.identity import fingerprint

__all__ = ["VERSION", "Contents", "from_line", "read", "to_line", "write"]

VERSION = 1


@dataclass(frozen=True)
class Contents:
    """What the directory holds."""

    ids: tuple[str, ...]
    given: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    cells: tuple[Cells, ...]


def to_line(name: str) -> str:
    r"""Write an id so that it fits on one line of UTF-8.

    Example:
        >>> print(to_line("two\nlines"))
        two\nlines
    """
    plain = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}
    return re.sub(
        "[\\\\\n\r\ud800-\udfff]",
        lambda found: plain.get(found[0]) or f"\\u{ord(found[0]):04x}",
        name,
    )


def from_line(line: str) -> str:
    """Read what `to_line` wrote."""
    plain = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}

    def original(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if found[0] not in plain:
            raise ValueError(f"ids.txt has an unknown escape `{found[0]}`")
        return plain[found[0]]

    return re.sub(r"\\(?:u([0-9a-f]{4})|.?)", original, line)


def write(path: Path, contents: Contents) -> None:
    """Write the directory under a temporary name beside `path`, then put it in place.

    Raises:
        OutputError: The directory cannot be written, or `path` holds something else.
    """
    target = path.resolve()
    fresh, old = _siblings(target)
    try:
        _check_target(path, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(fresh)
        fresh.mkdir()
        _write_files(fresh, contents)
        _flush_directory(fresh)
        _swap(fresh, target, old)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(
            f"ledger cannot be written to `{path}`: {error.strerror or error}",
            hint="free some space, or choose a directory that can be written",
        ) from error


def read(path: Path, *, memmap: bool) -> Contents:
    """Read the directory.

    Raises:
        LedgerError: There is no ledger, it is damaged, or its format is newer than this code.
    """
    _, old = _siblings(path.resolve())
    # A kill between the two renames of a swap leaves the previous ledger under this name.
    place = old if not path.exists() and old.exists() else path
    if not (place / "schema.json").is_file():
        raise LedgerError(
            f"`{path}` holds no ledger (no `schema.json`)", hint="give the directory of a ledger"
        )
    try:
        schema = json.loads((place / "schema.json").read_text("utf-8"))
        version = schema["version"]
        if version > VERSION:
            raise LedgerError(
                f"ledger `{path}` has format version {version}; this errata reads up to {VERSION}",
                hint="install a newer errata",
            )
        ids = _read_ids(place / "ids.txt")
        given = _read_array(place / "given.npy", memmap=False)
        cells = tuple(_read_cells(place, entry, len(ids), memmap) for entry in schema["columns"])
        contents = Contents(ids, given, tuple(schema["classes"]), schema["fingerprint"], cells)
        if schema["num_rows"] != len(ids) or fingerprint(ids, given) != contents.fingerprint:
            raise ValueError("ids.txt and given.npy do not match the fingerprint of schema.json")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise LedgerError(
            f"ledger `{path}` is damaged: {_reason(error)}",
            hint="restore it from a copy, or run the audit again",
        ) from error
    return contents


def _siblings(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _check_target(path: Path, target: Path) -> None:
    """Refuse to replace anything that is not a ledger: a slip must not delete a user's files."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputError(f"`{path}` is a file, not a directory", hint="choose another place")
    found = {entry.name for entry in target.iterdir()}
    foreign = sorted(n for n in found if n not in ("schema.json", "ids.txt") and n[-4:] != ".npy")
    if foreign or (found and "schema.json" not in found):
        raise OutputError(
            f"`{path}` holds something else than a ledger: `{(foreign or sorted(found))[0]}`",
            hint="choose another directory, or empty this one",
        )


def _swap(fresh: Path, target: Path, old: Path) -> None:
    if target.exists():
        _remove(old)
        target.replace(old)
    fresh.replace(target)
    _flush_directory(target.parent)
    _remove(old)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


def _write_files(place: Path, contents: Contents) -> None:
    lines = "".join(to_line(name) + "\n" for name in contents.ids)
    _write_file(place / "ids.txt", lambda file: file.write(lines.encode("utf-8")))
    _write_array(place / "given.npy", contents.given)
    for cells in contents.cells:
        _write_array(place / f"{cells.column.name}.npy", _to_numpy(cells.read()))
        if cells.counts is not None:
            _write_array(place / f"{cells.column.name}.filled.npy", _to_numpy(cells.counts))
    schema = {
        "format": "errata ledger",
        "version": VERSION,
        "num_rows": len(contents.ids),
        "fingerprint": contents.fingerprint,
        "classes": list(contents.classes),
        "columns": [_describe(cells) for cells in contents.cells],
    }
    text = json.dumps(schema, indent=2, allow_nan=False) + "\n"
    _write_file(place / "schema.json", lambda file: file.write(text.encode("utf-8")))


def _write_array(path: Path, array: np.ndarray) -> None:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    _write_file(path, lambda file: np.save(file, little, allow_pickle=False))


def _write_file(path: Path, fill: Callable[[Any], object]) -> None:
    with path.open("xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    # Only POSIX systems let a directory be opened to make its entries durable.
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _describe(cells: Cells) -> dict[str, object]:
    column, init = cells.column, cells.column.init
    term = VOCABULARY.get(column.name)
    return {
        "name": column.name,
        "owner": cells.owner,
        "rule": column.rule,
        "dtype": column.dtype_name,
        "shape": list(column.shape),
        "keep": column.keep,
        # JSON has no NaN and no infinity, so those go as text.
        "init": str(init) if isinstance(init, float) and not math.isfinite(init) else init,
        "top": column.top,
        "unit": term.unit if term else "",
        "meaning": term.meaning if term else "",
    }


def _read_ids(path: Path) -> tuple[str, ...]:
    lines = path.read_bytes().decode("utf-8").split("\n")
    if lines.pop() != "":
        raise ValueError("the last line of ids.txt is cut off")
    return tuple(map(from_line, lines))


def _read_cells(place: Path, entry: dict[str, Any], num_rows: int, memmap: bool) -> Cells:
    init = float(entry["init"]) if isinstance(entry["init"], str) else entry["init"]
    column = Column(
        entry["name"],
        shape=tuple(entry["shape"]),
        dtype=DTYPES[entry["dtype"]],
        rule=entry["rule"],
        keep=entry["keep"],
        init=init,
        top=entry["top"],
    )
    column.check()
    values = _read_tensor(place / f"{column.name}.npy", column.cells(num_rows), column, memmap)
    counts = None
    if column.rule != "sum":
        counter = Column("counts", dtype=torch.int32)
        counts = _read_tensor(place / f"{column.name}.filled.npy", (num_rows,), counter, memmap)
    return cells_of(column, entry["owner"], values, counts)


def _read_tensor(path: Path, shape: tuple[int, ...], column: Column, memmap: bool) -> Tensor:
    array = _read_array(path, memmap=memmap)
    if array.shape != shape or array.dtype.name != column.dtype_name:
        raise ValueError(
            f"{path.name} is {array.dtype.name} {array.shape}, "
            f"schema.json says {column.dtype_name} {shape}"
        )
    return torch.from_numpy(array)


def _read_array(path: Path, *, memmap: bool) -> np.ndarray:
    # Copy-on-write: the file never changes, and torch does not warn of read-only memory.
    array: np.ndarray = np.load(path, mmap_mode="c" if memmap else None, allow_pickle=False)
    return array


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"`{Path(error.filename).name}` is missing"
    return f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
