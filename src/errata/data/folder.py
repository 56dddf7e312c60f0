"""Folders of class folders with image files.

What counts as an image is decided by the suffix: any that Pillow can decode. Other files are
counted as skipped; hidden ones (a name that starts with a dot, and `__MACOSX`) are ignored. An
image file that turns out not to be decodable is listed as unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errata.data.classes import listed_classes, match_classes, sorted_names
from errata.data.decode import image_suffixes
from errata.data.found import Found
from errata.data.ids import plain_text, text_id
from errata.data.pictures import FoundFiles
from errata.errors import SourceError

__all__ = ["read_folder"]

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class _Listing:
    files: dict[str, tuple[Path, str]]
    """The file and the class of each id."""
    skipped: int


def read_folder(root: Path, *, name: str, match: Sequence[str] | None = None) -> FoundFiles:
    """Find the labelled images of a folder: one subfolder per class, nested folders allowed inside.

    A root whose subfolders are all called train (training), val (valid, validation) or test
    (testing), train among them, is a split: the others become test sets, where they hold class
    folders. Ids are paths relative to the root of the split. Rows are sorted by id.

    Args:
        root: The folder.
        name: How people refer to it.
        match: Class names of another source that this one has to use.

    Raises:
        SourceError: The folder holds no class folder with images, or a class that is not among
            those to match.
    """
    splits = _splits(root)
    skipped = 0
    tests: dict[str, Found] = {}
    start = splits.pop("train", root)
    training = _list_images(start)
    if not training.files:
        raise _empty(start, training.skipped)
    classes = list(match or sorted_names({label for _, label in training.files.values()}))
    for split, folder in sorted(splits.items()):
        listing = _list_images(folder)
        skipped += listing.skipped
        if listing.files:
            tests[split] = _found(listing, name=f"{name} {split}", classes=classes)
    return _found(
        training, name=name, classes=classes, tests=tests, skipped=skipped + training.skipped
    )


def _found(
    listing: _Listing,
    *,
    name: str,
    classes: Sequence[str],
    tests: dict[str, Found] | None = None,
    skipped: int = 0,
) -> FoundFiles:
    ids = sorted(listing.files)
    own = sorted_names({label for _, label in listing.files.values()})
    index = {label: number for number, label in enumerate(own)}
    numbers = np.array([index[listing.files[key][1]] for key in ids], dtype=np.int64)
    given, names = match_classes(numbers, own, classes, where=f"`{text_id(name)}`")
    return FoundFiles(
        [listing.files[key][0] for key in ids],
        given,
        classes=names,
        ids=ids,
        name=name,
        tests=tests,
        skipped=skipped,
    )


def _splits(root: Path) -> dict[str, Path]:
    """Give the folders of a split by role, or nothing where the root is no split."""
    folders = [entry.name for entry in _entries(root) if entry.is_dir()]
    roles = [_SPLITS.get(folder.lower(), "") for folder in folders]
    if "train" not in roles or "" in roles:
        return {}
    if len(set(roles)) < len(roles):
        raise SourceError(
            f"`{text_id(str(root))}` holds two folders for one split: "
            f"{listed_classes(sorted(folders))}; "
            "allowed: one each of train, val and test",
            hint="open one of the folders by itself",
        )
    return {role: root / folder for role, folder in zip(roles, folders, strict=True)}


def _list_images(root: Path) -> _Listing:
    suffixes = image_suffixes()
    files: dict[str, tuple[Path, str]] = {}
    skipped = 0
    for top in _entries(root):
        if not top.is_dir():
            skipped += 1
            continue
        for path in _walk(Path(top.path), ()):
            if path.suffix.lower() not in suffixes or not (path.is_file() or path.is_symlink()):
                skipped += 1
                continue
            files[text_id(path.relative_to(root).as_posix())] = (path, plain_text(top.name))
    return _Listing(files, skipped)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """All files below a folder; links are followed, but not in circles."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path), (*above, here))
        else:
            yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name != "__MACOSX"
        ]


def _empty(root: Path, skipped: int) -> SourceError:
    loose = sum(Path(entry.name).suffix.lower() in image_suffixes() for entry in _entries(root))
    if loose:
        what = f"holds {loose} image files but no class folders with images"
    else:
        what = f"holds no class folders with images ({skipped} other files)"
    return SourceError(
        f"`{text_id(str(root))}` {what}; allowed: one subfolder for each class",
        hint="put the images of each class into a folder named like the class, or write a csv "
        "table with the "
        "columns `image` and `label`",
    )
