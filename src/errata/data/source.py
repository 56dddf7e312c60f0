"""Opening a data source by its name or path, and the identity of its rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from errata.data.found import Fit, Found, Progress, Unreadable
from errata.data.ids import text_id
from errata.data.truth import Truth
from errata.errors import SettingsError, SourceError, unknown_name
from errata.types import Source

if TYPE_CHECKING:
    from errata.data.verified import Verified

__all__ = ["Opened", "Unreadable", "describe", "open_source"]

_LATER = ("animal10n", "cifar100n", "clothing1m", "food101n", "webvision")
_KNOWN = ("cifar10", "cifar100", "cifar10n", "fashion-mnist", "mnist")
_TABLES = (".csv", ".tsv", ".parquet")
_FORMS = (
    "`digits`, a folder of class folders, `*.csv`, `*.tsv`, `*.parquet`, `*.npz`, or "
    + ", ".join(f"`{kind}:DIR`" for kind in _KNOWN)
)


@dataclass(frozen=True, eq=False)
class Opened:
    """All that a source holds."""

    train: Source
    tests: Mapping[str, Source]
    """Official splits: ``test``, or ``val`` where that is what it is called."""
    truth: Truth | None = None
    """The true labels of the training rows, where they are known; for evaluation only."""
    unreadable: tuple[Unreadable, ...] = ()
    """Files that are in no source because they could not be decoded."""
    conflicts: tuple[tuple[int, ...], ...] = ()
    """Groups of training rows with identical pixels and differing labels."""
    weights: np.ndarray | None = None
    """[N] float32 weights of the training rows, from a label file."""
    verified: Verified | None = None
    """What people found of the given labels."""
    skipped: int = 0
    """Files in class folders that are no images by their suffix."""


@dataclass
class _Chosen:
    """Training rows with everything that is known of each."""

    rows: np.ndarray
    given: np.ndarray
    weights: np.ndarray | None = None
    truth: np.ndarray | None = None
    verified: Verified | None = None

    def take(self, places: np.ndarray) -> _Chosen:
        return _Chosen(
            rows=self.rows[places],
            given=self.given[places],
            weights=None if self.weights is None else self.weights[places],
            truth=None if self.truth is None else self.truth[places],
            verified=None if self.verified is None else self.verified.take(places),
        )


def open_source(
    spec: str,
    *,
    labels: str | Path | None = None,
    images: str | Path | None = None,
    limit: int | None = None,
    truth: str | Path | None = None,
    verified: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Opened:
    """Open the data that a name or path stands for, with its official test set.

    Args:
        spec: A known name (`digits`), a folder of class folders, a table, an npz file, or
            `kind:DIR`.
        labels: A csv file `id,label[,weight]` that replaces given labels; ids it does not mention
            keep theirs.
        images: Where the paths of a table start; beside the table by default.
        limit: Number of training rows to keep, at least 1: the first rows of arrays in their
            official order, else a stratified choice by seed. Unreadable files among them are listed
            and not replaced.
        truth: True labels for evaluation only: a csv file `id,label`, or an npy file [N] of class
            numbers.
        verified: Verification labels: a csv file `id,is_correct` or `id,label`.
        size: Height and width in pixels that pictures are brought to (one number: both); chosen
            from the files by default, and left as they are for arrays.
        channels: 1 to turn pictures grey, 3 to turn them into colour; as they come by default.
        seed: Decides the held-out rows of `digits` and the choice of `limit`.
        column: Which human labels of `cifar10n` to take, for example `worst_label`.
        classes: Class names of another source, for a test set; labels are matched to these by name.
        progress: Called now and then while files are decoded, with the number done and the number
            in all.

    Raises:
        SourceError: The data are missing or cannot be used as they are.
        SettingsError: The name or an option is not allowed.

    Example:
        >>> opened = open_source("digits", limit=100)
        >>> len(opened.train.ids), len(opened.tests["test"].ids), opened.train.shape
        (100, 359, (1, 8, 8))
    """
    from errata.data.labels import find_conflicts, read_label_file, read_truth_file
    from errata.data.verified import read_verified_file

    fit = _check_options(limit=limit, size=size, channels=channels)
    try:
        found = _find(spec, images=images, column=column, seed=seed, match=classes)
        chosen = _Chosen(np.arange(len(found.ids)), found.given, truth=found.truth)
        if labels is not None:
            chosen.given, chosen.weights = read_label_file(Path(labels), found)
        if truth is not None:
            chosen.truth = read_truth_file(Path(truth), found)
        if verified is not None:
            chosen.verified = read_verified_file(Path(verified), found)
        if classes is None:
            _check_classes(chosen.given, found, limit=None)
        if limit is not None:
            # By the source's own labels, so that a label file does not change which rows are kept.
            chosen = chosen.take(_limited(found, found.given, limit=limit, seed=seed))
        train, kept, unreadable = found.take(
            chosen.rows, given=chosen.given, fit=fit, progress=progress
        )
        chosen = chosen.take(kept)
        if classes is None:
            _check_classes(chosen.given, found, limit=limit)
        tests = {}
        fit = _same_shape(train)
        for name, part in found.tests.items():
            taken = part.take(
                np.arange(len(part.ids)), given=part.given, fit=fit, progress=progress
            )
            tests[name] = taken.source
            unreadable += taken.unreadable
    except OSError as error:
        raise SourceError(
            f"`{text_id(str(error.filename or spec))}` cannot be read: {error.strerror or error}",
            hint="check the path and its permissions",
        ) from error
    return Opened(
        train=train,
        tests=tests,
        truth=None if chosen.truth is None else Truth(chosen.truth),
        unreadable=unreadable,
        conflicts=find_conflicts(train),
        weights=chosen.weights,
        verified=chosen.verified,
        skipped=found.skipped,
    )


def _same_shape(train: Source) -> Fit:
    # Test pictures have to look like training pictures to the model.
    if len(train.shape) != 3:
        return Fit()
    channels, height, width = train.shape
    return Fit((height, width), channels)


def describe(opened: Opened) -> str:
    """Say in one line what was opened.

    Example:
        >>> describe(open_source("digits"))
        'digits: 1438 rows, 10 classes, 1 x 8 x 8; test 359'
    """
    train = opened.train
    shape = " x ".join(str(length) for length in train.shape)
    parts = [f"{train.name}: {len(train.ids)} rows, {len(train.classes)} classes, {shape}"]
    parts += [f"{name} {len(source.ids)}" for name, source in opened.tests.items()]
    conflicts = len(opened.conflicts)
    groups = "group" if conflicts == 1 else "groups"
    counts = (
        (int((train.given < 0).sum()), "unlabelled"),
        (len(opened.unreadable), "unreadable"),
        (opened.skipped, "skipped, no images by their suffix"),
        (conflicts, f"{groups} of equal pictures with differing labels"),
    )
    parts += [f"{count} {what}" for count, what in counts if count]
    return "; ".join(parts)


def _check_options(
    *, limit: int | None, size: int | tuple[int, int] | None, channels: int | None
) -> Fit:
    if limit is not None and limit < 1:
        raise SettingsError(f"limit `{limit}` is not allowed; allowed: 1 and above")
    if channels not in (None, 1, 3):
        raise SettingsError(f"channels `{channels}` is not allowed; allowed: 1 (grey), 3 (colour)")
    both = (size, size) if isinstance(size, int) else size
    if both is not None and not all(1 <= length <= 4096 for length in both):
        raise SettingsError(f"size `{size}` is not allowed; allowed: 1 to 4096 pixels")
    return Fit(both, channels)


def _find(
    spec: str,
    *,
    images: str | Path | None,
    column: str | None,
    seed: int,
    match: Sequence[str] | None,
) -> Found:
    from errata.data import arrays, cifar, digits, folder, idx, table

    name = text_id(spec)
    kind, colon, rest = spec.partition(":")
    if column is not None and kind != "cifar10n":
        raise SettingsError(
            f"column `{column}` has no meaning for the source `{name}`; allowed: with "
            "`cifar10n:DIR` only"
        )
    if images is not None and Path(spec).suffix.lower() not in _TABLES:
        raise SettingsError(
            f"images `{images}` has no meaning for the source `{name}`; allowed: with a table only"
        )
    if spec == "digits":
        return digits.read_digits(seed=seed, match=match)
    if colon and kind in _LATER:
        raise SettingsError(
            f"the source `{kind}:` is not there yet; allowed: {_FORMS}",
            hint="write a csv table with the columns `image` and `label`, and open that",
        )
    if colon and kind in _KNOWN:
        root = Path(rest).expanduser()
        if not rest or not root.is_dir():
            raise SourceError(
                f"`{text_id(rest)}` is no folder; allowed after `{kind}:`: the folder of its files",
                hint=f"write `{kind}:` and the path of the folder",
            )
        if kind in ("mnist", "fashion-mnist"):
            return idx.read_idx(root, name=name, kind=kind, match=match)
        if kind == "cifar10n":
            return cifar.read_cifar10n(root, name=name, column=column, match=match)
        return cifar.read_cifar(root, name=name, kind=kind, match=match)
    path = Path(spec).expanduser()
    if not path.exists():
        raise _missing(spec, path)
    if path.is_dir():
        return folder.read_folder(path, name=name, match=match)
    if path.suffix.lower() in _TABLES:
        return table.read_table(
            path, name=name, images=None if images is None else Path(images), match=match
        )
    if path.suffix.lower() == ".npz":
        return arrays.read_npz(path, name=name, match=match)
    raise SourceError(f"`{name}` is a file of an unknown kind; allowed: {_FORMS}")


def _missing(spec: str, path: Path) -> SettingsError | SourceError:
    kind, colon, _ = spec.partition(":")
    # A single letter before the colon is a drive, not a kind of source.
    if colon and len(kind) > 1 and "/" not in kind and "\\" not in kind:
        return unknown_name("source", f"{kind}:", [f"{known}:" for known in (*_KNOWN, *_LATER)])
    near = difflib.get_close_matches(spec, ["digits"], cutoff=0.7)
    if not near and path.parent.is_dir():
        names = sorted(entry.name for entry in path.parent.iterdir())
        close = difflib.get_close_matches(path.name, names, n=1)
        near = [str(path.parent / name) for name in close]
    hint = f"did you mean `{text_id(near[0])}`?" if near else f"allowed: {_FORMS}"
    return SourceError(f"the source `{text_id(spec)}` does not exist", hint=hint)


def _check_classes(given: np.ndarray, found: Found, *, limit: int | None) -> None:
    present = np.unique(given[given >= 0])
    if len(present) >= 2:
        return
    words = f"only the class `{found.classes[present[0]]}`" if len(present) else "no labelled row"
    after = (
        "" if limit is None else f" among the {len(given)} rows that are left of limit `{limit}`"
    )
    raise SourceError(
        f"`{found.name}` has {words}{after}; allowed: at least two classes with labels",
        hint="raise the limit" if limit is not None else "check that the labels are the right ones",
    )


def _limited(found: Found, given: np.ndarray, *, limit: int, seed: int) -> np.ndarray:
    from errata.data.wrap import stratified_rows
    from errata.streams import numpy_generator

    if found.is_ordered:
        return np.arange(min(limit, len(given)))
    return stratified_rows(given, limit, numpy_generator(seed, "limit"))
