"""CIFAR-10 and CIFAR-100 in the official binary version or as npz files, and CIFAR-10N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errata.data.arrays import FoundArrays, load_arrays, read_npz
from errata.data.classes import class_numbers
from errata.data.ids import text_id
from errata.data.table import read_columns
from errata.errors import SettingsError, SourceError, unknown_name

__all__ = ["read_cifar", "read_cifar10n"]

_PIXELS = 3 * 32 * 32
_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class _Layout:
    train: tuple[str, ...]
    test: str
    names: str
    folder: str
    label_bytes: int
    """Bytes before the pixels; the last of them is the label."""
    classes: tuple[str, ...]
    """Names to use where the file of names is missing."""


_LAYOUTS = {
    "cifar10": _Layout(
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        folder="cifar-10-batches-bin",
        label_bytes=1,
        classes=_CIFAR10,
    ),
    "cifar100": _Layout(
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        folder="cifar-100-binary",
        label_bytes=2,
        classes=tuple(str(number) for number in range(100)),
    ),
}


def read_cifar(
    root: Path, *, name: str, kind: str, match: Sequence[str] | None = None
) -> FoundArrays:
    """Read the official training and test sets of CIFAR-10 or CIFAR-100 (fine labels).

    The folder holds the binary version as unpacked, or `cifar10_train.npz` and `cifar10_test.npz`
    with `x`, `y` and `classes` (`cifar100_...` alike).

    Args:
        root: The folder.
        name: How people refer to it.
        kind: `cifar10` or `cifar100`.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: A file is missing or damaged.
    """
    layout = _LAYOUTS[kind]
    packed = root / f"{kind}_train.npz"
    if packed.is_file():
        found = read_npz(packed, name=name, match=match)
        test_file = root / f"{kind}_test.npz"
        if test_file.is_file():
            found.tests = {"test": read_npz(test_file, name=f"{name} test", match=found.classes)}
        return found
    folder = next(
        (place for place in (root, root / layout.folder) if (place / layout.train[0]).is_file()),
        None,
    )
    if folder is None:
        raise SourceError(
            f"`{text_id(str(root))}` has neither `{layout.train[0]}` nor `{packed.name}`; "
            "allowed: the binary "
            f"version of {kind}, or npz files of it",
            hint="the Python version is pickled and never read; get the binary version",
        )
    classes = _class_names(folder / layout.names, layout)
    train = _read_batches([folder / file for file in layout.train], layout, classes, name, match)
    test = _read_batches([folder / layout.test], layout, classes, f"{name} test", match)
    train.tests = {"test": test}
    return train


def _class_names(path: Path, layout: _Layout) -> tuple[str, ...]:
    if not path.is_file():
        return layout.classes
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != len(layout.classes):
        raise SourceError(
            f"`{text_id(str(path))}` names {len(names)} classes; allowed: {len(layout.classes)}"
        )
    return names


def _read_batches(
    files: list[Path],
    layout: _Layout,
    classes: Sequence[str],
    name: str,
    match: Sequence[str] | None,
) -> FoundArrays:
    width = layout.label_bytes + _PIXELS
    for file in files:
        length = file.stat().st_size if file.is_file() else 0
        if not length or length % width:
            raise SourceError(
                f"`{text_id(str(file))}` is missing or has {length} bytes; allowed: a multiple "
                f"of {width} bytes",
                hint="unpack the official binary version again",
            )
    counts = [file.stat().st_size // width for file in files]
    x = np.empty((sum(counts), 3, 32, 32), dtype=np.uint8)
    y = np.empty(sum(counts), dtype=np.uint8)
    start = 0
    for file, count in zip(files, counts, strict=True):
        records = np.fromfile(file, np.uint8).reshape(count, width)
        y[start : start + count] = records[:, layout.label_bytes - 1]
        x[start : start + count] = records[:, layout.label_bytes :].reshape(count, 3, 32, 32)
        start += count
    ids = [str(row) for row in range(len(x))]
    given, names = class_numbers(
        y, ids=ids, classes=classes, match=match, where=f"`{text_id(str(files[0].parent))}`"
    )
    return FoundArrays(x, given, classes=names, name=name, ids=ids)


def read_cifar10n(
    root: Path, *, name: str, column: str | None, match: Sequence[str] | None = None
) -> FoundArrays:
    """Read CIFAR-10 with the human labels of CIFAR-10N as the given ones.

    The images lie in the same folder or in its sibling `cifar10`. The labels come from
    `cifar10n.npz` (one array of class numbers for each column) or from `cifar10n_COLUMN.csv`
    (`id,label`). The labels of CIFAR-10 itself become the truth; a `clean_label` in the npz file
    has to agree with them.

    Args:
        root: The folder.
        name: How people refer to it.
        column: Which labels to take, for example `worst_label`.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: A file is missing or damaged, or labels and images are in different orders.
        SettingsError: No column is named, or an unknown one.
    """
    packed = root / "cifar10n.npz"
    tables = {path.stem.removeprefix("cifar10n_"): path for path in root.glob("cifar10n_*.csv")}
    tables.pop("clean_label", None)
    arrays = _label_arrays(packed) if packed.is_file() else {}
    clean = arrays.pop("clean_label", None)
    names = sorted({*arrays, *tables})
    if not names:
        raise SourceError(
            f"`{text_id(str(root))}` has neither `cifar10n.npz` nor a `cifar10n_COLUMN.csv`; "
            "allowed: the folder with "
            "the human labels"
        )
    if column is None:
        raise SettingsError(
            f"`{name}` has several human labels for each image; allowed: {', '.join(names)}",
            hint=f"choose one, for example `--column {names[-1]}`",
        )
    if column not in names:
        raise unknown_name("column", column, names)
    found = read_cifar(_image_folder(root), name=name, kind="cifar10", match=match)
    where = f"`{text_id(str(packed if column in arrays else tables[column]))}`"
    values = arrays[column] if column in arrays else _label_cells(tables[column], found, where)
    if values.shape != found.given.shape:
        raise SourceError(
            f"{where} has {len(values)} labels, but there are {len(found.given)} images; "
            "allowed: one label for each"
        )
    given, _ = class_numbers(
        values,
        ids=found.ids,
        classes=None,
        match=found.classes,
        where=f"{where}, column `{column}`",
    )
    if clean is not None and not np.array_equal(clean, found.given):
        raise SourceError(
            f"{where}: `clean_label` differs from the labels of the images, so the two are in "
            "different orders; "
            "allowed: the official order",
            hint="bring the human labels into the order of data_batch_1 to data_batch_5",
        )
    found.truth, found.given = found.given, given
    return found


def _image_folder(root: Path) -> Path:
    layout = _LAYOUTS["cifar10"]
    wanted = ("cifar10_train.npz", layout.train[0], f"{layout.folder}/{layout.train[0]}")
    for place in (root, root.parent / "cifar10"):
        if any((place / file).is_file() for file in wanted):
            return place
    raise SourceError(
        f"neither `{text_id(str(root))}` nor its sibling `cifar10` holds the images of CIFAR-10; "
        "allowed: the binary "
        "version or `cifar10_train.npz`",
        hint="put the images beside the labels",
    )


def _label_arrays(path: Path) -> dict[str, np.ndarray]:
    # Other arrays, such as the order of another edition, are no labels.
    return {
        key: values
        for key, values in load_arrays(path, needed=()).items()
        if key.endswith("label") or key.startswith("random_label")
    }


def _label_cells(path: Path, found: FoundArrays, where: str) -> np.ndarray:
    columns = read_columns(path, needed=("id", "label"))
    if columns["id"] != list(found.ids):
        raise SourceError(
            f"{where} has {len(columns['id'])} ids that are not the {len(found.ids)} row numbers "
            "in order; "
            "allowed: one line for each image, from id `0`"
        )
    return np.array(columns["label"])
