"""All the data of one run: training samples, test sets, and the truth kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from errata.data.noise import plant_noise
from errata.data.source import Opened, Unreadable, open_source
from errata.data.truth import Truth
from errata.errors import SourceError
from errata.types import Source

__all__ = ["Samples", "open_samples"]


@dataclass(frozen=True)
class Samples:
    """What a run works on. Training is given `source` alone, which cannot tell right from wrong.

    Attributes:
        source: Training samples with their given labels, planted errors included.
        tests: Labelled test sets, by name.
        truth: True labels for evaluation, or None.
        noise: What was planted, in words; empty where nothing was.
        unreadable: Files that could not be decoded.
        conflicts: Groups of rows with equal pixels and differing labels.
        weights: Weight of each row [N] float32 from a label file, or None.
        clean: Trusted samples outside the training set, or None.
        verified: [N] int64: 1 where a person found the given label right, 0 wrong, -1 unknown; or
            None.
    """

    source: Source
    tests: Mapping[str, Source]
    truth: Truth | None
    noise: str
    unreadable: tuple[Unreadable, ...]
    conflicts: tuple[tuple[int, ...], ...]
    weights: np.ndarray | None = None
    clean: Source | None = None
    verified: np.ndarray | None = None


def open_samples(
    spec: str,
    *,
    labels: str | None = None,
    images: str | None = None,
    limit: int | None = None,
    noise: str | None = None,
    truth: str | None = None,
    size: int | None = None,
    column: str | None = None,
    tests: Mapping[str, str] | None = None,
    clean: str | None = None,
    verified: str | None = None,
    seed: int = 0,
) -> Samples:
    """Open a source and its test sets, and plant errors where asked.

    Raises:
        SourceError: Data cannot be used as they are.
        SettingsError: A name or a value is not allowed.
    """
    opened = open_source(
        spec,
        labels=labels,
        images=images,
        limit=limit,
        truth=truth,
        size=size,
        seed=seed,
        column=column,
        verified=verified,
    )
    source, known, words = opened.train, opened.truth, ""
    if noise:
        planted = plant_noise(source, noise, seed=seed, truth=known)
        source, known, words = planted.source, planted.truth, planted.words
    return Samples(
        source=source,
        tests=_open_tests(opened, tests or {}, seed),
        truth=known,
        noise=words,
        unreadable=opened.unreadable,
        conflicts=opened.conflicts,
        weights=opened.weights,
        clean=None if clean is None else _matched(clean, opened, seed).train,
        verified=None if opened.verified is None else opened.verified.against(source.given),
    )


def _open_tests(opened: Opened, tests: Mapping[str, str], seed: int) -> dict[str, Source]:
    found = dict(opened.tests)
    for name, spec in tests.items():
        other = _matched(spec, opened, seed)
        # The official test part, where a source has one, is what people mean by testing on it.
        found[name] = other.tests.get("test", other.train)
    return found


def _matched(spec: str, opened: Opened, seed: int) -> Opened:
    """Open another source with the classes and the shape of the training samples."""
    shape = opened.train.shape
    other = open_source(
        spec,
        classes=opened.train.classes,
        size=(shape[1], shape[2]) if len(shape) == 3 else None,
        channels=shape[0] if len(shape) == 3 else None,
        seed=seed,
    )
    if other.train.shape != shape:
        raise SourceError(
            f"`{other.train.name}` has samples of shape `{other.train.shape}`; allowed: "
            f"`{shape}`, as in `{opened.train.name}`",
            hint="give samples of the same kind",
        )
    return other
