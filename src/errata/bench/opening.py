"""The data of a cell: training rows with planted errors, and what lies beside them.

Shapes: N training rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from errata.bench.matrices import plant
from errata.bench.suites.base import Cell, Suite, data_folder
from errata.data import Planted, Subset, plant_noise
from errata.data.samples import Samples, open_samples
from errata.engine.evaluate import take_truth, true_transition, verify_rows
from errata.errors import SettingsError
from errata.methods import card_named
from errata.streams import numpy_generator
from errata.types import Source

__all__ = ["Opened", "long_tail_rows", "open_cell", "open_suite"]


@dataclass(frozen=True)
class Opened:
    """What a cell is trained and measured on.

    Attributes:
        planted: Training samples with their given labels, and the truth for evaluation.
        tests: Labelled test sets, by name; ``noisy-validation`` among them where there is one.
        transition: [C, C] share of the rows of true class i that are given class j.
        clean: Trusted samples, where the recipe is given some.
        verified: [N] int64: 1 right, 0 wrong, -1 unknown, where the recipe is given some.
    """

    planted: Planted
    tests: Mapping[str, Source]
    transition: np.ndarray
    clean: Source | None = None
    verified: torch.Tensor | None = None


def open_suite(suite: Suite, *, seed: int) -> Samples:
    """Open all rows that a suite uses, in their order and without planted errors.

    Raises:
        SourceError: The data cannot be used.
        SettingsError: The folder of benchmark data is missing.
    """
    total = None if suite.limit is None else suite.limit + suite.validation + suite.trusted
    needs_data = "{data}" in suite.source
    spec = suite.source.format(data=data_folder()) if needs_data else suite.source
    return open_samples(spec, limit=total, seed=seed)


def open_cell(suite: Suite, cell: Cell) -> Opened:
    """Open the samples of a cell.

    Raises:
        SourceError: The data cannot be used.
        SettingsError: The recipe needs what the suite does not have.
    """
    gives = _inputs(suite, cell)
    samples = open_suite(suite, seed=cell.seed)
    rows = np.arange(len(samples.source.ids))
    cut = len(rows) if suite.limit is None else suite.limit
    held = rows[cut : cut + suite.validation]
    training = rows[:cut][long_tail_rows(samples.source.given[rows[:cut]], suite.long_tail)]
    planted = plant(_part(samples, training), cell.noise, seed=cell.seed)
    tests = dict(samples.tests)
    if suite.validation:
        tests["noisy-validation"] = plant(_part(samples, held), cell.noise, seed=cell.seed).source
    verified = None
    if "verified" in gives:
        rng = numpy_generator(cell.seed, "bench", "verified")
        known = verify_rows(planted.truth, planted.source.given, share=suite.verified, rng=rng)
        verified = torch.from_numpy(known)
    trusted = rows[cut + suite.validation :]
    return Opened(
        planted,
        tests,
        true_transition(planted.truth, planted.source.given, len(planted.source.classes)),
        _part(samples, trusted).source if "clean" in gives else None,
        verified,
    )


def long_tail_rows(given: np.ndarray, ratio: float) -> np.ndarray:
    """Choose rows [n] so that class sizes fall geometrically from the first class to the last.

    Class c keeps the first ``smallest class * ratio ** (-c / (C - 1))`` of its rows. Source: the
    long-tailed CIFAR of Cao et al. 2019, arXiv:1906.07413.

    Args:
        given: [N] class numbers.
        ratio: Rows of the largest class over those of the smallest, 1 and above; 1 keeps all.

    Example:
        >>> labels = np.arange(12) % 2
        >>> np.bincount(labels[long_tail_rows(labels, 3.0)]).tolist()
        [6, 2]
    """
    if ratio <= 1:
        return np.arange(len(given))
    labels, sizes = np.unique(given[given >= 0], return_counts=True)
    kept = []
    for place, label in enumerate(labels):
        share = ratio ** (-place / max(1, len(labels) - 1))
        kept.append(np.flatnonzero(given == label)[: max(1, round(sizes.min() * share))])
    return np.sort(np.concatenate(kept))


def _part(samples: Samples, rows: np.ndarray) -> Planted:
    truth = None if samples.truth is None else take_truth(samples.truth, rows)
    return plant_noise(Subset(samples.source, rows), "uniform:0", seed=0, truth=truth)


def _inputs(suite: Suite, cell: Cell) -> set[str]:
    variant = suite.variant(cell.recipe)
    cards = [card_named(name.strip()) for name in variant.recipe.split("+")]
    needs = {need for card in cards for need in card.needs}
    has = {"clean": suite.trusted > 0, "verified": suite.verified > 0}
    for name in sorted(needs | set(variant.gives)):
        if not has.get(name, "{transition}" in " ".join(variant.changes)):
            raise SettingsError(
                f"recipe `{cell.recipe}` needs {name}, which suite `{suite.name}` does not have",
                hint="give the suite trusted or verified rows, or leave the recipe out",
            )
    return {name for name in (*needs, *variant.gives) if has.get(name)}
