"""How many labels are wrong, from one model's probabilities alone.

Several readings of the same table differ in what misleads them: a model that learned the errors, or
one that is unsure, or classes that are confused in one direction. They are taken first, as plain
numbers; a rule, which is one small function, then makes the estimate of them.

Shapes: N rows, n sampled rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from errata.blocks import Blocks, blocks_of
from errata.detect.confident import _EVEN
from errata.detect.one_pass import OnePass, one_pass
from errata.detect.rate import RateEstimate
from errata.errors import unknown_name

__all__ = [
    "DEFAULT_RULE",
    "READS_POSTERIOR",
    "RULES",
    "RateReadings",
    "estimate_rate",
    "rate_readings",
    "read_rates",
    "transition_em",
]

_MOST_CLASSES = 100
_SAMPLED_ROWS = 20_000
_SAMPLED_VALUES = 2**19
_READ_VALUES = 2**21
_POWERS = (0.2, 0.3, 0.45, 0.65, 1.0, 1.5, 2.2, 3.3, 5.0, 7.5)
_STEPS = 15
_FLOOR = 1e-6
_EASY = (0.15, 0.25)
_RISE, _MANY = 2.5, 0.225
_BELIEVED = 0.2


@dataclass(frozen=True)
class RateReadings:
    """What single readings say of the share of wrong labels, each 0 to 1.

    Attributes:
        rows: Labelled rows that were read.
        classes: C.
        disagreement: Share of rows whose best class is another.
        doubt: The same, each counted by how far the other class leads: 1 - given / other.
        confident: Share of the calibrated confident joint off its diagonal.
        posterior: Mean probability of another true class, by an estimated transition matrix and
            sharpened probabilities; NaN where it was not taken, as above 100 classes.
        sure: Share of rows whose best class is another, among the half with the highest best
            probability.
        surest: The same among the tenth with the highest one. Far too few rows to say how many
            labels are wrong, it tells a model that is unsure from one that is contradicted.
    """

    rows: int
    classes: int
    disagreement: float
    doubt: float
    confident: float
    posterior: float
    sure: float
    surest: float

    @property
    def values(self) -> dict[str, float]:
        """The readings of the rate that could be taken, by name."""
        names = ("disagreement", "doubt", "confident", "posterior", "sure")
        return {name: getattr(self, name) for name in names if not np.isnan(getattr(self, name))}


def _posterior(readings: RateReadings) -> float:
    return readings.values.get("posterior", readings.doubt)


def _surest(readings: RateReadings) -> float:
    """Weigh `sure` against the mean of `doubt` and `confident`, by the surest tenth of the rows.

    Rows on which the model is unsure cannot tell its own errors from those of the labels. If labels
    err, they contradict the model also where it is surest; if its surest tenth hardly ever
    disagrees, it is the model that errs, and `sure` alone counts. A tenth with a fifth of the
    disagreement of all rows, or more, brings the mean of the two readings of all rows: `doubt` is
    right where errors follow the sample, and too high where they follow the class alone.
    """
    trust = min(readings.surest / max(_BELIEVED * readings.disagreement, _FLOOR), 1.0)
    every = (readings.doubt + readings.confident) / 2
    return readings.sure + trust * max(every - readings.sure, 0.0)


def _gated(readings: RateReadings) -> float:
    """Start from `doubt`, and let the half of the rows that the model is sure of correct it.

    Where that half hardly ever disagrees, the model is just unsure of the others: its share counts
    alone. Where it often disagrees, errors are so many that the model has become unsure of them:
    the reading moves towards `disagreement`. Slope and bounds are fitted to planted errors.
    """
    share = readings.sure / max(readings.disagreement, _FLOOR)
    trust = min(max((share - _EASY[0]) / (_EASY[1] - _EASY[0]), 0.0), 1.0)
    rate = readings.sure + trust * (readings.doubt - readings.sure)
    rise = min(max(_RISE * (readings.sure - _MANY), 0.0), 1.0)
    return rate + rise * (readings.disagreement - readings.doubt)


def _fitted(readings: RateReadings) -> float:
    """Blend by a regression on planted errors; without a posterior, as ``gated``."""
    if np.isnan(readings.posterior):
        return _gated(readings)
    every = readings.disagreement
    blend = 0.28 * readings.posterior + 0.80 * readings.sure - 0.08 * every
    return min(max(blend, 0.0), every)


RULES: dict[str, Callable[[RateReadings], float]] = {
    "surest": _surest,
    "gated": _gated,
    "fitted": _fitted,
    "posterior": _posterior,
    "middle": lambda readings: float(
        np.median([each for name, each in readings.values.items() if name != "sure"])
    ),
    "confident": lambda readings: readings.confident,
    "disagreement": lambda readings: readings.disagreement,
    "doubt": lambda readings: readings.doubt,
}
"""Rules by name. ``posterior`` takes ``doubt`` where there is no posterior. The first three rest on
planted errors (`benchmarks/rate_study.py`); decision 0014 tells how."""
READS_POSTERIOR = ("posterior", "middle", "fitted")
DEFAULT_RULE = "gated"


def estimate_rate(readings: RateReadings, *, rule: str = DEFAULT_RULE) -> RateEstimate:
    """Make the estimate of the readings.

    The interval holds what all readings say, and what chance may do to a count of so many rows. It
    is provisional: how often it covers the truth is not yet measured.

    Raises:
        SettingsError: No rule has this name.

    Example:
        >>> readings = RateReadings(1000, 10, 0.3, 0.2, 0.1, 0.15, 0.1, 0.06)
        >>> estimate_rate(readings).estimate, estimate_rate(readings, rule="middle").estimate
        (0.2, 0.175)
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    rate = RULES[rule](readings)
    said = [rate, *readings.values.values()]
    # Seeing no error in N rows still allows for about 3 / N of them.
    chance = 1.96 * np.sqrt(rate * (1 - rate) / readings.rows) + 3 / readings.rows
    low, high = max(0.0, min(said) - chance), min(1.0, max(said) + chance)
    return RateEstimate(rate, float(low), float(high), rule)


def read_rates(found: OnePass, probs: Blocks, *, posterior: bool = True) -> RateReadings:
    """Take the readings of one table.

    Args:
        found: Of the table.
        probs: [N, C]; read again for the posterior alone, every so many rows.
        posterior: Whether to take it, by far the dearest reading of a narrow table.
    """
    rows = np.flatnonzero(found.usable)
    own, other = found.given_prob[rows], found.other_prob[rows]
    disagrees = found.top[rows] != found.given[rows]
    best = np.where(disagrees, other, own)
    # All rows of one height count alike: their order must not.
    half, tenth = np.quantile(best, [0.5, 0.9])
    doubt = np.where(disagrees, 1 - own / np.where(disagrees, other, 1.0), 0.0)
    implied = np.nan
    if posterior and found.classes <= _MOST_CLASSES:
        most = min(_SAMPLED_ROWS, _SAMPLED_VALUES // found.classes)
        sampled = rows[:: -(-len(rows) // most)]
        _, implied = transition_em(_read_rows(probs, sampled), found.given[sampled])
    return RateReadings(
        len(rows),
        found.classes,
        float(disagrees.mean()),
        float(doubt.mean()),
        _confident(found, rows, disagrees),
        implied,
        float(disagrees[best >= half].mean()),
        float(disagrees[best >= tenth].mean()),
    )


def rate_readings(probs: Any, given: np.ndarray) -> RateReadings:
    """Take all readings of probabilities [N, C] and labels [N] in one call."""
    table = blocks_of(probs, "probabilities")
    return read_rates(one_pass(table, given), table)


def _confident(found: OnePass, rows: np.ndarray, disagrees: np.ndarray) -> float:
    """Take the share of errors of the confident joint, of what one pass has kept.

    A row counts where its best class reaches its threshold. `errata.detect.confident` also counts
    rows that reach another threshold only; these are few, and finding them takes a second pass.
    """
    given, top = found.given[rows], found.top[rows]
    best = np.where(disagrees, found.other_prob[rows], found.given_prob[rows])
    sizes = np.maximum(found.counts, 1)
    means = np.bincount(given, found.given_prob[rows], found.classes) / sizes
    thresholds = np.where(found.counts > 0, means, 1.0)
    sure = best >= thresholds[top] - _EVEN
    right = np.bincount(given[sure & ~disagrees], minlength=found.classes)
    wrong = np.bincount(given[sure & disagrees], minlength=found.classes)
    # A class without sure rows is taken to be right, as in `calibrated_joint`.
    shares = wrong / (np.maximum(right, 1) + wrong)
    return float((shares * found.counts).sum() / len(rows))


def _read_rows(probs: Blocks, rows: np.ndarray) -> np.ndarray:
    """Read rows [n, C] in double precision, without ever holding more than a block of the rest."""
    size = max(1, _READ_VALUES // probs.shape[1])
    taken = []
    for start in range(0, probs.shape[0], size):
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + size)]
        if len(here):
            block = probs.read(start, min(probs.shape[0], start + size))
            taken.append(block[here - start].astype(np.float64))
    return np.concatenate(taken)


def transition_em(probs: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a transition matrix and a sharpening to given labels, and count the errors they imply.

    A model that was trained on noisy labels is less sure than one trained on true ones, and one
    that was trained for long is too sure. Its probabilities to a power stand for the true class, T
    for the errors; T is fitted by expectation and maximisation for one power after another, and the
    power whose product gives the labels their highest likelihood counts. The labels must be held
    out from the model. Form and numbers are ours; T by expectation and maximisation is that of
    Bekker and Goldberger 2016.

    Args:
        probs: [n, C].
        given: [n] class numbers.

    Returns:
        T [C, C], ``T[i, j]`` = P(given j | true i), and the mean probability of a row to be of
        another class than the given one.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.1, 0.9]]).repeat(50, axis=0)
        >>> T, rate = transition_em(probs, np.array([0, 1]).repeat(50))
        >>> T.round(2).tolist(), round(rate, 2)
        ([[1.0, 0.0], [0.0, 1.0]], 0.0)
    """
    # Sums by class go over whole runs of rows: no matrix product, whose bits depend on threads.
    order = np.argsort(given, kind="stable")
    given = given[order]
    logs = np.log(np.maximum(probs[order], _FLOOR))
    fits: dict[int, tuple[float, np.ndarray, float]] = {}

    def likelihood(place: int) -> float:
        if place not in fits:
            fits[place] = _fit_transition(logs * _POWERS[place], given)
        return fits[place][0]

    # The likelihood rises and falls once: climb from the probabilities as they are.
    best = _POWERS.index(1.0)
    for step in (1, -1):
        while 0 <= best + step < len(_POWERS) and likelihood(best + step) > likelihood(best):
            best += step
    _, T, rate = fits[best]
    return T, rate


def _fit_transition(logs: np.ndarray, given: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Fit T for one sharpening; gives the mean log-likelihood, T, and the share of errors."""
    clean = np.exp(logs - logs.max(1, keepdims=True))
    clean /= clean.sum(1, keepdims=True)
    classes = clean.shape[1]
    present, starts = np.unique(given, return_index=True)
    T = 0.8 * np.eye(classes) + 0.2 / classes
    likelihood = 0.0
    belief = clean
    for _ in range(_STEPS):
        belief = clean * T.T[given]
        total = belief.sum(1, keepdims=True)
        likelihood = float(np.log(total).mean())
        belief /= total
        joint = np.zeros((classes, classes))
        joint[:, present] = np.add.reduceat(belief, starts, axis=0).T
        # One row more that is right keeps an empty class from dividing by nothing.
        joint += np.eye(classes)
        T = np.maximum(joint / joint.sum(1, keepdims=True), 1e-9)
    wrong = 1 - belief[np.arange(len(given)), given]
    return likelihood, T, float(wrong.mean())
