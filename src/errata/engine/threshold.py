"""Rows that are made wrong on purpose, so that training shows how wrong labels look in it.

Either into a class that does not exist (threshold samples), which says below which margin labels
are wrong; or into real classes, which says how many errors of that kind a search would find.

Shapes: N rows, C classes, R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from errata.data.flips import flip_other
from errata.data.wrap import Relabelled
from errata.engine.run import TrainingRun
from errata.errors import LedgerError, SettingsError
from errata.ledger import Ledger, standard
from errata.ledger.identity import fingerprint
from errata.streams import numpy_generator
from errata.types import Source

__all__ = [
    "FakeClass",
    "PlantedRecall",
    "ThresholdSearch",
    "accumulated_margins",
    "choose_threshold_rows",
    "flag_below_threshold",
    "planted_recall",
    "search_by_threshold",
    "write_threshold",
]

FitSource = Callable[[Source, Path], TrainingRun]


def choose_threshold_rows(
    given: np.ndarray, *, classes: int, runs: int = 2, seed: int
) -> list[np.ndarray]:
    """Draw, for each run, N / (C + 1) labelled rows; no row is drawn for two runs.

    So the fake class is as large as the others are on average. Source: AUM (Pleiss et al. 2020,
    arXiv:2001.10528).

    Args:
        given: [N] class numbers; -1 is never drawn.
        classes: C without the fake one.
        runs: How many disjoint sets, at least 1.
        seed: Start of the stream.

    Raises:
        SettingsError: There are too many runs, or too few rows.
    """
    labelled = np.flatnonzero(given >= 0)
    size = len(labelled) // (classes + 1)
    if size < 2:
        raise SettingsError(
            f"threshold samples cannot be drawn from `{len(labelled)}` labelled rows of {classes} "
            f"classes; allowed: {2 * (classes + 1)} rows and above",
            hint="use the accumulated margin by rank, which needs no threshold",
        )
    if not 1 <= runs <= classes + 1:
        raise SettingsError(
            f"runs `{runs}` is out of range; allowed: 1 to {classes + 1}, so that no row is drawn "
            "twice",
            hint="2 runs judge every row",
        )
    drawn = numpy_generator(seed, "threshold").permutation(labelled)
    return [np.sort(drawn[k * size : (k + 1) * size]) for k in range(runs)]


@final
class FakeClass:
    """The samples of another source, some of them under a class that does not exist.

    Args:
        source: Where the samples come from.
        rows: [n] rows that are given the fake class, number C.
    """

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        name = "threshold"
        while name in source.classes:
            name += "_"
        self.source = source
        self.name = source.name
        self.ids = source.ids
        self.given = source.given.copy()
        self.given[rows] = len(source.classes)
        self.classes = (*source.classes, name)
        self.shape = source.shape
        self.in_memory = source.in_memory

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples of these rows, as the other source gives them."""
        return self.source.pixels(rows)

    def show(self, row: int) -> bytes:
        """Show one row as the other source does."""
        return self.source.show(row)


def accumulated_margins(ledger: Ledger) -> np.ndarray:
    """Give the mean margin [N] over all epochs; NaN where a row was never seen.

    Raises:
        LedgerError: The ledger was not written by `Track`.
    """
    if not (ledger.has("margin_sum") and ledger.has("times_seen")):
        raise LedgerError(
            "the ledger lacks `margin_sum`; allowed: ledgers of a training with `Track`",
            hint="train with observers=(Track(),), the default of `fit`",
        )
    times = ledger.read("times_seen").double().cpu().numpy()
    total = ledger.read("margin_sum").double().cpu().numpy()
    return np.asarray(total / np.where(times > 0, times, np.nan))


def flag_below_threshold(
    margins: Sequence[np.ndarray], chosen: Sequence[np.ndarray], *, percentile: float = 99.0
) -> tuple[np.ndarray, list[float]]:
    """Flag rows whose margin is below that of the threshold samples, in every run that judges them.

    A run judges the rows that are not its own threshold samples. The limit of a run is a high
    percentile of its samples' margins: nearly all rows that are surely wrong lie below it. Source:
    AUM (Pleiss et al. 2020, arXiv:2001.10528).

    Args:
        margins: [R] accumulated margins [N] of each run; NaN is never flagged.
        chosen: [R] threshold rows of each run.
        percentile: 0 to 100.

    Returns:
        Flags [N] bool, and the limit [logits] of each run.

    Example:
        >>> one, two = np.array([5.0, -3.0, -1.0, -2.0]), np.array([4.0, -4.0, 2.0, -1.0])
        >>> flags, limits = flag_below_threshold([one, two], [np.array([3]), np.array([1])])
        >>> flags.tolist(), limits
        ([False, True, False, False], [-2.0, -4.0])
    """
    judged = np.zeros(len(margins[0]), dtype=np.int64)
    below, limits = np.zeros_like(judged), []
    for values, rows in zip(margins, chosen, strict=True):
        limit = float(np.percentile(values[rows], percentile))
        judges = ~np.isnan(values)
        judges[rows] = False
        judged += judges
        below += judges & (np.nan_to_num(values) < limit)
        limits.append(limit)
    return (judged > 0) & (below == judged), limits


@dataclass(frozen=True, eq=False)
class ThresholdSearch:
    """What threshold samples found.

    Attributes:
        flagged: [N] bool.
        margin: [N] mean accumulated margin over the runs that judged the row; NaN where none did.
        limits: [R] margin below which rows were flagged, one for each run.
    """

    flagged: np.ndarray
    margin: np.ndarray
    limits: list[float]


def search_by_threshold(
    fit_source: FitSource,
    source: Source,
    *,
    runs: int = 2,
    percentile: float = 99.0,
    seed: int,
    work: Path,
) -> ThresholdSearch:
    """Train with threshold samples, and flag rows that look no better than they do.

    The margin under which a label is wrong differs between nets, schedules and data. Rows that are
    given a class which does not exist are wrong for sure, so their margins show it. A row is
    flagged where every run that did not use it as a sample says so. Source: AUM (Pleiss et al.
    2020, arXiv:2001.10528): ResNet-32, 150 epochs, learning rate .1 without decay, batch 64; it
    leaves out the first epoch, and the margins of `Track` do not.

    Args:
        fit_source: Trains on a source that has one class more, with a folder for its checkpoint;
            name the model, so that it gets as many outputs.
        source: All rows.
        runs: Trainings, each with samples of its own; 2 judge every row.
        percentile: Of the samples' margins, 0 to 100.
        seed: Start of the stream that draws.
        work: Folder for finished runs, so that an interrupted search goes on.

    Raises:
        SettingsError: A number is out of range, or there are too few rows.
        LedgerError: The training did not record margins.
    """
    if not 0 < percentile <= 100:
        raise SettingsError(
            f"percentile `{percentile}` is out of range; allowed: above 0, to 100",
            hint="99 is the paper's",
        )
    chosen = choose_threshold_rows(source.given, classes=len(source.classes), runs=runs, seed=seed)
    work.mkdir(parents=True, exist_ok=True)
    name = f"{fingerprint(source.ids, source.given)[:12]}-{seed}-of-{runs}"
    margins = []
    for k, rows in enumerate(chosen):
        place = work / f"threshold-{k}-{name}.npy"
        if not place.exists():
            run = fit_source(FakeClass(source, rows), place.with_suffix(""))
            partial = place.with_suffix(".partial.npy")
            np.save(partial, accumulated_margins(run.ledger))
            partial.replace(place)
        margins.append(np.load(place, allow_pickle=False))
    flagged, limits = flag_below_threshold(margins, chosen, percentile=percentile)
    judged = np.stack(margins)
    for k, rows in enumerate(chosen):
        judged[k, rows] = np.nan
    count = (~np.isnan(judged)).sum(0)
    mean = np.nansum(judged, axis=0) / np.where(count > 0, count, np.nan)
    return ThresholdSearch(flagged, mean, limits)


def write_threshold(ledger: Ledger, found: ThresholdSearch, *, stamp: int = 0) -> None:
    """Write what a search found into the ledger of its rows, for the detector ``threshold``.

    The columns are ``threshold_margin`` and ``threshold_flag``; an older search is written over.
    """
    everyone = torch.arange(ledger.num_rows, device=ledger.device)
    columns = {"threshold_margin": found.margin, "threshold_flag": found.flagged}
    ledger.add("threshold", *map(standard, columns))
    for name, values in columns.items():
        ledger.write(name, everyone, torch.from_numpy(values), stamp=stamp)


@dataclass(frozen=True, eq=False)
class PlantedRecall:
    """How many planted errors a search found.

    Attributes:
        rows: [n] rows whose label was changed.
        recall: Share of them that were flagged, 0 to 1.
        deviation: Its standard deviation, from the number of rows.
    """

    rows: np.ndarray
    recall: float
    deviation: float


def planted_recall(
    fit_source: FitSource,
    source: Source,
    flag: Callable[[Ledger], np.ndarray],
    *,
    share: float = 0.02,
    seed: int,
    work: Path,
) -> PlantedRecall:
    """Change a few labels to other classes, train, and see how many of them are flagged.

    It needs no true labels. It says how many errors *of this kind* are missed: uniform ones, which
    are the easiest. It says nothing of false alarms, nor of errors between look-alikes.

    Args:
        fit_source: Trains on a source, with a folder for its checkpoint.
        source: All rows.
        flag: Says of a finished ledger which rows are flagged [N] bool.
        share: Of the labelled rows, above 0, at most 0.2.
        seed: Start of the stream that draws.
        work: Folder for the checkpoint.

    Raises:
        SettingsError: `share` is out of range, or so small that it changes no row.
    """
    labelled = int((source.given >= 0).sum())
    if not 0 < share <= 0.2 or round(share * labelled) < 1:
        raise SettingsError(
            f"share `{share}` of {labelled} labelled rows is out of range; allowed: above 0, to "
            "0.2, and at least one row",
            hint="0.02 is enough for some hundred rows; more would disturb the training",
        )
    rng = numpy_generator(seed, "planted")
    given = flip_other(source.given, share, len(source.classes), rng)
    rows = np.flatnonzero(given != source.given)
    run = fit_source(Relabelled(source, given), work)
    recall = float(np.asarray(flag(run.ledger))[rows].mean())
    return PlantedRecall(rows, recall, float(np.sqrt(recall * (1 - recall) / len(rows))))
