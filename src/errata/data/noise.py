"""Planted label noise: a named kind of error in the given labels, with the truth kept apart.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from errata.data import flips
from errata.data.noise_spec import NOISE_FORMS, NoiseSpec, parse_noise, read_matrix, read_probs
from errata.data.open_set import OpenTruth, replace_samples
from errata.data.truth import Truth
from errata.errors import OutputError, SettingsError, SourceError
from errata.streams import numpy_generator
from errata.types import Source

__all__ = [
    "NOISE_FORMS",
    "NoiseSpec",
    "Planted",
    "parse_noise",
    "plant_noise",
    "write_noisy_labels",
]

_CIFAR10 = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}
_FASHION = {
    "t-shirt/top": "shirt",
    "shirt": "t-shirt/top",
    "pullover": "coat",
    "coat": "pullover",
    "sandal": "sneaker",
    "sneaker": "sandal",
    "trouser": "dress",
    "ankle boot": "sneaker",
}
_KNOWN_MAPS = (
    (_CIFAR10, {*_CIFAR10, "automobile", "airplane", "horse", "frog", "ship"}),
    (_FASHION, {*_FASHION, "dress", "bag"}),
)


@dataclass(frozen=True)
class Planted:
    """A source with planted errors, and what only evaluation may know of them.

    Attributes:
        source: The same samples with noisy given labels.
        truth: The true labels; an `OpenTruth` where rows have no right class.
        rate: Share of wrong labels, 0 to 1, among the rows whose given and true label are known or
            that have no right class.
        matrix: [C, C] int64: rows with true class i and given class j.
        words: What was done, in one sentence.
    """

    source: Source
    truth: Truth
    rate: float
    matrix: np.ndarray
    words: str


def plant_noise(source: Source, spec: str, *, seed: int, truth: Truth | None = None) -> Planted:
    """Plant label errors of a named kind; the source itself stays as it is.

    Args:
        source: Samples whose given labels are changed. Unlabelled rows stay unlabelled.
        spec: One of the forms in `NOISE_FORMS`.
        seed: The errors depend on the seed, the specification and the labels alone.
        truth: True labels where they are known to differ from the given ones already; then the
            new errors come on top. None takes the given labels as true.

    Raises:
        SettingsError: The specification is not allowed, or its file does not fit the source.
        SourceError: Noise needs two classes, or it left a class without any row.
    """
    from errata.data.wrap import Relabelled

    asked = parse_noise(spec)
    given = np.asarray(source.given, dtype=np.int64)
    clean = given.copy() if truth is None else truth.clean
    if len(source.classes) < 2:
        raise SourceError(
            f"noise `{spec}` needs at least 2 classes; `{source.name}` has {len(source.classes)}"
        )
    if asked.kind == "open":
        return _plant_open(source, asked, spec, seed, truth)
    noisy, manner = _apply(source, given, asked, spec, numpy_generator(seed, "noise", spec))
    _refuse_empty_class(given, noisy, source.classes, spec)
    no_class = truth.open if isinstance(truth, OpenTruth) else np.zeros(len(given), dtype=bool)
    matrix, rate = _count(clean, noisy, no_class, len(source.classes))
    words = (
        f"{manner}: {int((noisy != given).sum()):,} of {int((given >= 0).sum()):,} labels changed; "
        f"{rate:.1%} are wrong"
    )
    kept = Truth(clean) if truth is None else truth
    return Planted(Relabelled(source, noisy), kept, rate, matrix, words)


def _plant_open(
    source: Source, asked: NoiseSpec, spec: str, seed: int, truth: Truth | None
) -> Planted:
    """Plant samples of no class: labels stay, and none is right for these rows."""
    replaced, is_open, manner = replace_samples(source, asked, spec, seed=seed)
    if isinstance(truth, OpenTruth):
        is_open = is_open | truth.open
    clean = np.where(is_open, -1, source.given if truth is None else truth.clean)
    matrix, rate = _count(clean, source.given, is_open, len(source.classes))
    words = f"{manner}; {rate:.1%} of the labels are wrong"
    return Planted(replaced, OpenTruth(clean, is_open), rate, matrix, words)


def _count(
    clean: np.ndarray, given: np.ndarray, no_class: np.ndarray, classes: int
) -> tuple[np.ndarray, float]:
    """Count rows by true and given class [C, C], and give the share of wrong labels."""
    known = (given >= 0) & (clean >= 0)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (clean[known], given[known]), 1)
    extra = int((no_class & (given >= 0)).sum())
    total = int(known.sum()) + extra
    return matrix, (total - int(np.trace(matrix))) / max(1, total)


def write_noisy_labels(
    planted: Planted, out_csv: str | Path, truth_path: str | Path | None = None
) -> None:
    """Write the noisy labels, and the truth into a file of its own.

    Args:
        planted: What `plant_noise` gave.
        out_csv: Gets the columns `id,label`, labels as class names, empty where unlabelled.
        truth_path: Gets an npz file with `ids` [N] and `clean` [N], class names as text, empty
            where unknown. None writes no truth.

    Raises:
        OutputError: A file cannot be written. Neither is then left half-written.
        SettingsError: Samples were replaced, which a label file cannot hold.
    """
    if isinstance(planted.truth, OpenTruth):
        raise SettingsError(
            "noise `open` replaces samples, which a file of labels cannot hold; allowed here: all "
            "other kinds of noise",
            hint="give it to --noise of `errata audit` or `errata train`",
        )
    source = planted.source
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "label"))
    writer.writerows(zip(source.ids, _names(source.given, source.classes), strict=True))
    contents = {Path(out_csv): text.getvalue().encode()}
    if truth_path is not None:
        packed = io.BytesIO()
        clean = _names(planted.truth.clean, source.classes)
        np.savez(packed, ids=np.array(list(source.ids)), clean=np.array(clean))
        contents[Path(truth_path)] = packed.getvalue()
    for path, data in contents.items():
        _write_whole(path, data)


def _apply(
    source: Source, given: np.ndarray, asked: NoiseSpec, spec: str, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    classes = len(source.classes)
    rate = asked.rates[0] if asked.rates else None
    match asked.kind, rate:
        case "uniform", float():
            words = f"{_percent(rate)} of the labels drawn again over all classes"
            return flips.redraw_uniform(given, rate, classes, rng), words
        case "uniform-other", float():
            words = f"{_percent(rate)} of the labels moved to any other class"
            return flips.flip_other(given, rate, classes, rng), words
        case "asymmetric", float():
            mapping, why = _asymmetric_map(source, given, rng)
            words = (
                f"{_percent(rate)} of each mapped class moved ({why}: "
                f"{_arrows(mapping, source.classes)})"
            )
            return flips.flip_by_map(given, mapping, rate, rng), words
        case "pair", float():
            mapping = (np.arange(classes) + 1) % classes
            words = f"{_percent(rate)} of each class moved to the next class"
            return flips.flip_by_map(given, mapping, rate, rng), words
        case "per-class", _:
            if len(asked.rates) != classes:
                raise SettingsError(
                    f"noise `{spec}` has {len(asked.rates)} rates, but `{source.name}` has "
                    f"{classes} classes; allowed: one rate per class",
                    hint=f"the classes are {', '.join(source.classes[:10])}"
                    + (" ..." if classes > 10 else ""),
                )
            words = "labels moved to any other class, at a rate of its own for each class"
            return flips.flip_per_class(given, asked.rates, classes, rng), words
        case "instance", float():
            words = f"labels moved by the look of the sample, at {_percent(rate)} on average"
            return flips.draw_by_instance(given, _pixels_of(source), rate, classes, rng), words
        case "matrix", _:
            T = read_matrix(asked, classes, spec)
            return flips.draw_by_matrix(given, T, rng), f"labels drawn by the matrix `{asked.path}`"
        case _:
            probs = read_probs(asked, len(given), classes, spec)
            share = "labels" if rate is None else f"{_percent(rate)} of the labels"
            words = f"{share} drawn from the predictions `{asked.path}`"
            return flips.draw_from_probs(given, probs, rng, rate=rate), words


def _asymmetric_map(
    source: Source, given: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    names = [name.strip().lower().replace("_", " ") for name in source.classes]
    for arrows, known in _KNOWN_MAPS:
        if set(names) == known:
            mapping = [names.index(arrows.get(name, name)) for name in names]
            return np.array(mapping, dtype=np.int64), "the usual map of these classes"
    mapping_ = flips.confused_classes(given, _pixels_of(source), len(names), rng)
    return mapping_, "each class to the one it is most often taken for"


def _arrows(mapping: np.ndarray, classes: Sequence[str]) -> str:
    moved = [f"{classes[i]} > {classes[j]}" for i, j in enumerate(mapping) if i != j]
    return ", ".join(moved[:20]) + (f" and {len(moved) - 20} more" if len(moved) > 20 else "")


def _pixels_of(source: Source) -> flips.Pixels:
    """Give flat float64 samples; pictures of 0 to 255 are centred and scaled to about -2 to 2."""

    def pixels(rows: np.ndarray) -> np.ndarray:
        samples = source.pixels(rows).numpy()
        flat = samples.reshape(len(rows), -1).astype(np.float64)
        # A fixed rule instead of the mean of the data saves a second pass over the files.
        return (flat / 255 - 0.5) / 0.25 if samples.dtype == np.uint8 else flat

    return pixels


def _refuse_empty_class(
    given: np.ndarray, noisy: np.ndarray, classes: Sequence[str], spec: str
) -> None:
    counts = [np.bincount(labels[labels >= 0], minlength=len(classes)) for labels in (given, noisy)]
    empty = np.flatnonzero((counts[0] > 0) & (counts[1] == 0))
    if len(empty):
        raise SourceError(
            f"noise `{spec}` leaves class `{classes[empty[0]]}` without any row "
            f"(it had {counts[0][empty[0]]}); allowed: at least one row per class",
            hint="lower the rate, or use more rows",
        )


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"


def _names(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    return [classes[label] if label >= 0 else "" for label in labels.tolist()]


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)  # noqa: PTH105
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(
            f"cannot write `{path}`: {(error.strerror or str(error)).lower()}",
            hint="choose a place that can be written and has room",
        ) from error
