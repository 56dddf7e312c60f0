"""Formats by name: cards into files, files into answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from errata.errors import SettingsError, SourceError, unknown_name
from errata.exchange import argilla, fiftyone, labelstudio, sheets
from errata.exchange.answers import DECISION, LABEL, Answer, Card
from errata.exchange.tables import SUFFIXES, check_table, write_table
from errata.exchange.together import together
from errata.staging import guard_writes

__all__ = ["FORMATS", "check_format", "companions", "read_answers", "write_cards"]

FORMATS = ("csv", "parquet", "label-studio", "argilla", "fiftyone")

_READERS: dict[str, Callable[[Any], list[Answer]]] = {
    "label-studio": labelstudio.from_tasks,
    "argilla": argilla.from_records,
    "fiftyone": fiftyone.from_samples,
}


def check_format(path: Path, name: str | None) -> str:
    """Give the format of a file: its name where it is given, else by the suffix.

    Raises:
        SettingsError: The name is unknown, or the suffix does not fit or does not tell.
    """
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    suffix = path.suffix.lower()
    if name is None:
        if suffix not in SUFFIXES:
            raise SettingsError(
                f"the format of `{path}` is not known from its name; allowed: `.csv`, `.parquet`, "
                "or any name with --as",
                hint=f"add --as with one of: {', '.join(FORMATS)}",
            )
        name = suffix.removeprefix(".")
    wanted = f".{name}" if f".{name}" in SUFFIXES else ".json"
    if suffix != wanted:
        raise SettingsError(
            f"`{path}` ends in `{path.suffix}`; allowed with --as {name}: `{wanted}`",
            hint=f"name it for example `{path.with_suffix(wanted)}`",
        )
    if wanted in SUFFIXES:
        check_table(path)
    return name


def companions(path: Path, name: str) -> tuple[Path, ...]:
    """Name the files that are written beside the cards: the configuration of Label Studio."""
    return (path.with_suffix(".xml"),) if name == "label-studio" else ()


def write_cards(path: Path, name: str, cards: Sequence[Card], classes: Sequence[str]) -> None:
    """Write cards in a format; the files appear whole or not at all.

    Args:
        path: The file.
        name: One of `FORMATS`.
        cards: What goes out.
        classes: Names of the classes.

    Raises:
        OutputError: The file cannot be written.
    """
    with together() as sibling:
        for beside in companions(path, name):
            _write_text(sibling(beside), labelstudio.config(classes) + "\n")
        place = sibling(path)
        if name in ("csv", "parquet"):
            write_table(place, sheets.to_columns(cards), suffix=path.suffix)
            return
        document: Any
        if name == "label-studio":
            document = labelstudio.to_tasks(cards)
        elif name == "argilla":
            document = argilla.to_records(cards)
        else:
            document = fiftyone.to_samples(cards, classes)
        _write_text(place, json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))


def read_answers(path: Path, name: str) -> list[Answer]:
    """Read the answers of a file in a format.

    Args:
        path: The file.
        name: One of `FORMATS`.

    Raises:
        SourceError: It cannot be read, or has another layout.
    """
    if not path.is_file():
        raise SourceError(
            f"`{path}` cannot be read: there is no such file",
            hint="give the file that the tool saved",
        )
    if name in ("csv", "parquet"):
        from errata.data.table import read_columns

        columns = read_columns(path, needed=("id",))
        if LABEL not in columns and DECISION not in columns:
            raise SourceError(
                f"`{path}` has no column `{LABEL}` and no column `{DECISION}`; allowed: one of "
                "them, or both",
                hint="fill in the table that `errata export` wrote",
            )
        return sheets.from_columns(columns)
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SourceError(
            f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}",
            hint="check the path",
        ) from None
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"`{path}` is no JSON file: {error}", hint="export the answers as JSON"
        ) from None
    if name != "fiftyone" and not isinstance(document, list):
        raise SourceError(
            f"`{path}` holds no list; allowed: the list of tasks that the tool exports",
            hint="export the answers as JSON, all in one file",
        )
    return _READERS[name](document)


def _write_text(path: Path, text: str) -> None:
    with guard_writes(path):
        path.write_text(text, "utf-8")
