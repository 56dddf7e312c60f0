"""Bootstrap ensembles: how sure nets are of rows they never saw, and why they are not.

Shapes: N rows, C classes, M members, n drawn rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from errata.data import Subset
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_feed
from errata.errors import SettingsError
from errata.ledger import Ledger, standard
from errata.ledger.identity import fingerprint
from errata.streams import numpy_generator, seed_of
from errata.types import Source

__all__ = [
    "Ensemble",
    "Resampled",
    "Uncertainty",
    "bootstrap",
    "draw_bag",
    "entropy",
    "missing_share",
    "out_of_bag_share",
    "split_uncertainty",
    "write_ensemble",
]

log = logging.getLogger("errata")

_TINY = 1e-12


def out_of_bag_share(rows: int) -> float:
    """Give the probability that one of `rows` rows is in no place of a resample: about 1 / e.

    Example:
        >>> round(out_of_bag_share(10_000), 4)
        0.3679
    """
    return float((1 - 1 / rows) ** rows)


def missing_share(members: int, *, rows: int = 1_000_000) -> float:
    """Give the probability that a row is in every resample, so that no member can judge it.

    Example:
        >>> round(missing_share(8), 4)
        0.0255
    """
    return (1 - out_of_bag_share(rows)) ** members


def entropy(probs: np.ndarray) -> np.ndarray:
    """Give the entropy [nats] of distributions along the last axis; 0 log 0 is 0.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
        [0.6931, 0.0]
    """
    probs = np.asarray(probs, dtype=np.float64)
    return np.asarray(-(probs * np.log(np.maximum(probs, _TINY))).sum(-1)) + 0.0


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How unsure an ensemble is of each row, in nats.

    Attributes:
        total: [N] entropy of the mean prediction.
        aleatoric: [N] mean entropy of the members: what more data would not settle.
        epistemic: [N] the difference: how far the members disagree, at least 0.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def split_uncertainty(mean_prob: np.ndarray, mean_entropy: np.ndarray) -> Uncertainty:
    """Split the uncertainty of an ensemble by what its members agree on.

    Source: the mutual information of BALD (Houlsby et al. 2011, arXiv:1112.5745).

    Args:
        mean_prob: [N, C] mean of the members' predictions; NaN is unknown.
        mean_entropy: [N] mean of their entropies [nats].

    Example:
        >>> agree = split_uncertainty(np.array([[0.5, 0.5]]), np.array([np.log(2)]))
        >>> quarrel = split_uncertainty(np.array([[0.5, 0.5]]), np.array([0.0]))
        >>> agree.epistemic.round(4).tolist(), quarrel.epistemic.round(4).tolist()
        ([0.0], [0.6931])
    """
    total = entropy(mean_prob)
    # The mean entropy never exceeds the entropy of the mean; rounding can make it seem so.
    return Uncertainty(total, np.asarray(mean_entropy), np.maximum(total - mean_entropy, 0))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What nets that never saw a row say of it.

    Attributes:
        prob: [N, C] float32 mean prediction; NaN where every member saw the row.
        uncertainty: Of each row; NaN as above.
        times: [N] int64 members that never saw the row.
    """

    prob: np.ndarray
    uncertainty: Uncertainty
    times: np.ndarray


@final
class Resampled:
    """Rows of another source, some of them several times, each under an id of its own.

    Args:
        source: Where the samples come from.
        rows: [n] rows of `source`; they may repeat.
    """

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self.source = source
        self.rows = np.asarray(rows, dtype=np.int64)
        self.name = source.name
        self.ids = [f"{place}: {source.ids[row]}" for place, row in enumerate(self.rows)]
        self.given = source.given[self.rows]
        self.classes = source.classes
        self.shape = source.shape
        self.in_memory = source.in_memory

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples of these places of the resample."""
        return self.source.pixels(self.rows[rows])

    def show(self, row: int) -> bytes:
        """Show one place of the resample."""
        return self.source.show(int(self.rows[row]))


def draw_bag(given: np.ndarray, member: int, *, seed: int) -> np.ndarray:
    """Draw as many labelled rows as there are, with replacement, in ascending order.

    Args:
        given: [N] class numbers; -1 is never drawn.
        member: Number of the member; each draws anew.
        seed: Start of the stream.
    """
    labelled = np.flatnonzero(given >= 0)
    rng = numpy_generator(seed, "bootstrap", member)
    return np.sort(labelled[rng.integers(0, len(labelled), len(labelled))])


def bootstrap(
    fit_member: Callable[[Source, Path, int], TrainingRun],
    source: Source,
    members: int = 8,
    *,
    seed: int,
    work: Path,
) -> Ensemble:
    """Train nets on resamples, and let each predict the rows that it never saw.

    Predictions of rows in training show what was memorised; these do not. A row is out of the bag
    of one member with probability 1 / e, so 8 members leave 2.6 % of the rows without a prediction.
    The sums are kept, not the members, so the memory is that of one [N, C] array.

    Args:
        fit_member: Trains on a source, with a folder for its checkpoint and a seed of its own:
            members that begin at the same weights agree more than they should.
        source: All rows; those without a label are in no bag.
        members: How many trainings, at least 2.
        seed: Start of the streams that draw, and of the members' seeds.
        work: Folder for finished members, so that an interrupted run goes on. Members of other
            rows, labels, counts or seeds are not mixed up with these.

    Raises:
        SettingsError: `members` is below 2, or there are fewer than two labelled rows.
    """
    if members < 2:
        raise SettingsError(
            f"members `{members}` is out of range; allowed: 2 and above",
            hint="8 members predict 97 % of the rows",
        )
    labelled = int((source.given >= 0).sum())
    if labelled < 2:
        raise SettingsError(
            f"a bootstrap of `{labelled}` labelled rows says nothing; allowed: 2 and above",
            hint="check that the labels are the right ones",
        )
    work.mkdir(parents=True, exist_ok=True)
    name = f"{fingerprint(source.ids, source.given)[:12]}-{seed}-of-{members}"
    shape = len(source.ids), len(source.classes)
    total, spread, times = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[0], np.int64)
    for member in range(members):
        bag = draw_bag(source.given, member, seed=seed)
        held = np.setdiff1d(np.arange(shape[0]), bag)
        place = work / f"member-{member}-{name}.npy"
        if not place.exists():
            own = seed_of(seed, "bootstrap", member)
            run = fit_member(Resampled(source, bag), place.with_suffix(""), own)
            predicted = mean_probabilities(run, test_feed(run, Subset(source, held)))
            partial = place.with_suffix(".partial.npy")
            np.save(partial, predicted.astype(np.float32))
            partial.replace(place)
        probs = np.load(place, allow_pickle=False)
        total[held] += probs
        spread[held] += entropy(probs)
        times[held] += 1
    missing = float((times == 0).mean())
    if missing > 0.1:
        log.warning(
            f"{missing:.0%} of the rows are in every one of {members} resamples and get no "
            "prediction; 8 members leave 2.6 %"
        )
    return _average(total, spread, times)


def _average(total: np.ndarray, spread: np.ndarray, times: np.ndarray) -> Ensemble:
    count = np.where(times > 0, times, np.nan)
    prob = total / count[:, None]
    return Ensemble(prob.astype(np.float32), split_uncertainty(prob, spread / count), times)


def write_ensemble(ledger: Ledger, ensemble: Ensemble, *, stamp: int = 0) -> None:
    """Write an ensemble into the ledger of its rows, where detectors read it.

    The columns are ``prob_oof``, ``oof_times``, ``uncertainty``, ``aleatoric`` and ``epistemic``.

    Raises:
        LedgerError: Held-out predictions of somebody else are there already.
    """
    everyone = torch.arange(ledger.num_rows, device=ledger.device)
    columns = {
        "prob_oof": ensemble.prob,
        "oof_times": ensemble.times,
        "uncertainty": ensemble.uncertainty.total,
        "aleatoric": ensemble.uncertainty.aleatoric,
        "epistemic": ensemble.uncertainty.epistemic,
    }
    shape = (len(ledger.classes),)
    schemas = [standard(n, shape=shape if n == "prob_oof" else None) for n in columns]
    ledger.add("bootstrap", *schemas)
    for column, values in columns.items():
        ledger.write(column, everyone, torch.from_numpy(values), stamp=stamp)
