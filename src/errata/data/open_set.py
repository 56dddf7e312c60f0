"""Samples of no class at all: some rows get another picture, and then no label is right for them.

Shapes: N rows, n replaced rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from errata.data.arrays import png_of
from errata.data.truth import Truth
from errata.data.wrap import Relabelled
from errata.errors import SettingsError
from errata.streams import numpy_generator
from errata.types import Source

if TYPE_CHECKING:
    from errata.data.noise_spec import NoiseSpec

__all__ = ["OpenTruth", "Replaced", "open_rows", "replace_samples", "shuffled"]


@dataclass(frozen=True, eq=False)
class OpenTruth(Truth):
    """The truth where some rows have no right class; their `clean` is -1."""

    open: np.ndarray
    """[N] bool: the row shows nothing of any class."""


@final
class Replaced:
    """The samples of another source, some of them replaced.

    The source's own labels stay. Which rows were replaced shows only in their samples.

    Args:
        source: Where all other samples come from.
        rows: [n] rows to replace, ascending, each once.
        replacement: Gives the sample that takes the place of the k-th of these rows, in the shape
            and type of the source, 0 <= k < n.
    """

    def __init__(
        self, source: Source, rows: np.ndarray, replacement: Callable[[int], Tensor]
    ) -> None:
        self._source = source
        self._rows = np.asarray(rows, dtype=np.int64)
        self._replacement = replacement
        self.name = source.name
        self.ids = source.ids
        self.given = source.given
        self.classes = source.classes
        self.shape = source.shape
        self.in_memory = source.in_memory

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples of these rows."""
        rows = np.asarray(rows, dtype=np.int64)
        samples = self._source.pixels(rows)
        places = np.flatnonzero(np.isin(rows, self._rows))
        # Another source may hand out its own memory.
        samples = samples.clone() if len(places) else samples
        for place in places:
            k = int(np.searchsorted(self._rows, rows[place]))
            samples[place] = self._replacement(k)
        return samples

    def show(self, row: int) -> bytes:
        """Show one row as training sees it, if it was replaced; else as the source does."""
        if row not in self._rows:
            return self._source.show(row)
        return png_of(self.pixels(np.array([row]))[0].numpy())


def open_rows(given: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Choose exactly round(rate * N) of the N labelled rows [n], ascending.

    Example:
        >>> open_rows(np.array([0, -1, 1, 0]), 1.0, np.random.default_rng(0)).tolist()
        [0, 2, 3]
    """
    labelled = np.flatnonzero(given >= 0)
    return np.sort(rng.permutation(labelled)[: round(rate * len(labelled))])


def shuffled(sample: Tensor, rng: np.random.Generator) -> Tensor:
    """Put the pixels of a picture [C, H, W], or the numbers of a vector [D], in random order.

    The channels of a pixel stay together, so colours and brightness are those of real samples.
    """
    flat = sample.reshape(len(sample), -1) if sample.ndim == 3 else sample.reshape(1, -1)
    order = torch.from_numpy(rng.permutation(flat.shape[1]))
    return flat[:, order].reshape(sample.shape)


def replace_samples(
    source: Source, asked: NoiseSpec, spec: str, *, seed: int
) -> tuple[Source, np.ndarray, str]:
    """Replace the samples of some rows and keep their labels.

    Args:
        source: Samples with labels.
        asked: Of the kind ``open``: the rate, and the source that pictures come from; without one
            the row's own pixels are put in random order.
        spec: As it was written, for messages and for the draws.
        seed: The choice depends on the seed, the specification and the labels alone.

    Returns:
        The source with replaced samples, which rows [N] bool have no class now, and what was done.

    Raises:
        SettingsError: The other source does not fit, or has too few rows.
        SourceError: It cannot be opened.
    """
    rng = numpy_generator(seed, "noise", spec)
    rows = open_rows(source.given, asked.rates[0], rng)
    is_open = np.zeros(len(source.given), dtype=bool)
    is_open[rows] = True
    share = f"{100 * asked.rates[0]:.4g} % of the samples"
    if asked.source is None:

        def scramble(k: int) -> Tensor:
            row = int(rows[k])
            sample = source.pixels(np.array([row]))[0]
            return shuffled(sample, numpy_generator(seed, "open", spec, row))

        words = f"{share} with their pixels in random order"
        return Replaced(source, rows, scramble), is_open, words
    other = _open_other(source, asked.source, spec, seed)
    if len(other.ids) < len(rows):
        raise SettingsError(
            f"noise `{spec}` needs {len(rows):,} samples of `{other.name}`, which has "
            f"{len(other.ids):,}; allowed: at least as many as rows are replaced",
            hint="lower the rate, or take a larger source",
        )
    taken = rng.permutation(len(other.ids))[: len(rows)]

    def take(k: int) -> Tensor:
        return other.pixels(taken[k : k + 1])[0]

    return Replaced(source, rows, take), is_open, f"{share} replaced by samples of `{other.name}`"


def _open_other(source: Source, name: str, spec: str, seed: int) -> Source:
    """Open the source of replacements with the shape and the type of the samples."""
    from errata.data.source import open_source

    is_picture = len(source.shape) == 3
    if name == source.name:
        raise SettingsError(
            f"noise `{spec}` takes samples from the source itself; allowed: another source",
            hint=f"write `{spec.partition(',')[0]}` to put the pixels of its rows in random order",
        )
    other = open_source(
        name,
        size=(source.shape[1], source.shape[2]) if is_picture else None,
        channels=source.shape[0] if is_picture and source.shape[0] in (1, 3) else None,
        seed=seed,
    ).train
    one = np.array([0])
    types = [each.pixels(one).dtype for each in (other, source)]
    if other.shape != source.shape or types[0] != types[1]:
        raise SettingsError(
            f"noise `{spec}` has samples of shape `{other.shape}` and type `{types[0]}`; allowed: "
            f"`{source.shape}` and `{types[1]}`, as in `{source.name}`",
            hint="take a source of the same kind of samples",
        )
    # Its labels are of no use, and nothing that training can reach needs them.
    return Relabelled(other, np.full(len(other.given), -1))
