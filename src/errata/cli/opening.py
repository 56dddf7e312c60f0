"""Opening what is to be predicted: with labels, with labels of other classes, or without any."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from errata.cli.flags import ReadFlags
from errata.errors import SourceError

if TYPE_CHECKING:
    from errata.data import Opened
    from errata.engine.modelfile import SavedModel

__all__ = ["Found", "open_for"]

_TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Found:
    """A source that is open, and whether its labels count."""

    opened: Opened
    measured: bool
    """Whether the labels of the source are of the classes of the model."""


def open_for(spec: str, model: SavedModel, reading: ReadFlags, seed: int) -> Found:
    """Open a source for a model, with labels where it has some of the model's classes.

    Args:
        spec: SOURCE.
        model: Whose classes and picture size count.
        reading: Flags about the source.
        seed: Decides held-out rows and the choice of a limit.

    Raises:
        SourceError: The source cannot be used as it is.
    """
    from errata.data import open_source

    pictures = len(model.shape) == 3
    options: dict[str, Any] = {
        "labels": reading.labels,
        "limit": reading.limit,
        "size": model.shape[1:] if pictures else None,
        "channels": model.shape[0] if pictures else None,
        "seed": seed,
        "column": reading.column,
    }
    try:
        opened = open_source(spec, images=reading.images, classes=model.classes, **options)
        return Found(opened, measured=True)
    except SourceError as error:
        # Labels that are asked for have to fit; others are left out where they do not.
        if reading.labels is not None:
            raise
        listed = _without_labels(spec, reading)
        if listed is None:
            return Found(_open_anyway(spec, reading, options, error), measured=False)
    with _as_table(*listed) as table:
        opened = open_source(
            str(table), images=listed.start, classes=model.classes, **options | {"column": None}
        )
    return Found(opened, measured=False)


def _open_anyway(
    spec: str, reading: ReadFlags, options: dict[str, Any], error: SourceError
) -> Opened:
    """Open arrays whose labels are of other classes; where that fails too, so does all."""
    from errata.data import open_source

    try:
        return open_source(spec, images=reading.images, **options)
    except SourceError as second:
        if "two classes" not in second.message:
            raise
        raise SourceError(
            f"the labels of `{spec}` are not among the classes of the model, and all are of one "
            f"class: {error.message}",
            hint="write -1 as the label of rows that have none",
        ) from None


class _Listed(NamedTuple):
    """Pictures without labels."""

    start: Path
    """Where their paths start."""
    columns: dict[str, list[str]]
    """Of a table: image, and id and split where there are such."""


def _without_labels(spec: str, reading: ReadFlags) -> _Listed | None:
    """List the pictures of a folder or a table; gives None for other sources and empty ones."""
    from errata.data.decode import image_suffixes
    from errata.data.table import read_columns

    place = Path(spec).expanduser()
    if place.is_file() and place.suffix.lower() in _TABLES:
        columns = read_columns(place, needed=("image",))
        kept: dict[str, list[str]] = {
            name: columns[name] for name in ("image", "id", "split") if name in columns
        }
        return _Listed(Path(reading.images or place.parent), kept)
    if not place.is_dir():
        return None
    suffixes = image_suffixes()
    paths = sorted(
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if path.suffix.lower() in suffixes
        and path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(place).parts)
    )
    return _Listed(place, {"image": paths}) if paths else None


@contextmanager
def _as_table(start: Path, columns: dict[str, list[str]]) -> Iterator[Path]:
    """Write a table with empty labels for as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="errata-") as made:
        table = Path(made) / f"{start.resolve().name or 'pictures'}.csv"
        # Names of files need not be text; they come back the same by this way of writing.
        with table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow((*columns, "label"))
            writer.writerows((*cells, "") for cells in zip(*columns.values(), strict=True))
        yield table
