"""MNIST and Fashion-MNIST as published: four idx files, packed with gzip or plain."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np

from errata.data.arrays import FoundArrays
from errata.data.classes import class_numbers
from errata.data.ids import text_id
from errata.errors import SourceError

__all__ = ["read_idx", "read_idx_file"]

_CLASSES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}


def read_idx(
    root: Path, *, name: str, kind: str, match: Sequence[str] | None = None
) -> FoundArrays:
    """Read the official training and test sets of a folder with four idx files.

    Args:
        root: The folder.
        name: How people refer to it.
        kind: `mnist` or `fashion-mnist`; decides the class names.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: A file is missing or damaged, or images and labels do not fit each other.
    """
    test = _part(root, "t10k", name=f"{name} test", kind=kind, match=match)
    train = _part(root, "train", name=name, kind=kind, match=match)
    train.tests = {"test": test}
    return train


def _part(
    root: Path, part: str, *, name: str, kind: str, match: Sequence[str] | None
) -> FoundArrays:
    image_file = _locate(root, f"{part}-images", "idx3-ubyte")
    label_file = _locate(root, f"{part}-labels", "idx1-ubyte")
    x = read_idx_file(image_file, dimensions=3)
    y = read_idx_file(label_file, dimensions=1)
    if len(x) != len(y) or not len(x):
        raise SourceError(
            f"`{text_id(str(image_file))}` has {len(x)} images, but `{label_file.name}` has "
            f"{len(y)} labels; "
            "allowed: as many labels as images, at least one"
        )
    given, classes = class_numbers(
        y,
        ids=[str(row) for row in range(len(y))],
        classes=_CLASSES[kind],
        match=match,
        where=f"`{text_id(str(label_file))}`",
    )
    return FoundArrays(x[:, None], given, classes=classes, name=name)


def _locate(root: Path, stem: str, kind: str) -> Path:
    # Both spellings are in circulation: `-idx3-ubyte` as published, `.idx3-ubyte` from some
    # unpackers.
    names = [f"{stem}{mark}{kind}{packed}" for packed in (".gz", "") for mark in ("-", ".")]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise SourceError(
        f"`{text_id(str(root))}` has no file `{names[0]}`; allowed: a folder with the four idx "
        "files, packed or plain",
        hint="train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz "
        "and "
        "t10k-labels-idx1-ubyte.gz are needed",
    )


def read_idx_file(path: Path, *, dimensions: int) -> np.ndarray:
    """Read one idx file of unsigned bytes; the array cannot be written to.

    Args:
        path: The file; a name that ends in `.gz` is unpacked.
        dimensions: How many dimensions the array has to have.

    Raises:
        SourceError: The file is damaged, or holds something else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read_array(file, path, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(
            f"`{text_id(str(path))}` is damaged: {error}", hint="fetch the file again"
        ) from error


def _read_array(file: gzip.GzipFile | BufferedReader, path: Path, dimensions: int) -> np.ndarray:
    where = f"`{text_id(str(path))}`"
    # Two zero bytes, the type (8 = unsigned byte), the number of dimensions, then each length, big-
    # endian.
    magic = file.read(4)
    if magic != bytes([0, 0, 8, dimensions]):
        raise SourceError(
            f"{where} starts with `{magic.hex()}`; allowed: `000008{dimensions:02x}`, unsigned "
            "bytes of "
            f"{dimensions} dimensions"
        )
    lengths = file.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise SourceError(f"{where} ends within its header", hint="fetch the file again")
    shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
    count = math.prod(shape)
    content = file.read(count)
    if len(content) < count or file.read(1):
        found = f"{len(content)} bytes" if len(content) < count else "more bytes than that"
        raise SourceError(
            f"{where} has {found} after its header; allowed: {count} for the shape `{shape}`",
            hint="fetch the file again",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
