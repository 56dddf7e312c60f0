"""Wrong labels from probabilities that somebody's model made: no training.

The probabilities must be held out: of models that were not trained on the rows they speak of.

Shapes: N rows, C classes, D features, b bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from errata.blocks import blocks_of, vector_of
from errata.detect.decide import Findings, Flag, parse_flag
from errata.detect.how_many import (
    DEFAULT_RULE,
    READS_POSTERIOR,
    RateReadings,
    estimate_rate,
    read_rates,
)
from errata.detect.neighbours import neighbour_disagreement
from errata.detect.one_pass import OnePass, one_pass
from errata.detect.phantom import isotonic
from errata.detect.pointwise import log_ratio, normalised_margin, self_confidence
from errata.detect.probabilities import Warned
from errata.detect.rate import RateEstimate
from errata.detect.tables import probability_table
from errata.errors import SettingsError, unknown_name
from errata.record import Reason

__all__ = ["SCORES", "LabelErrors", "find_label_errors", "spread_rate"]

SCORES: dict[str, Callable[[OnePass], np.ndarray]] = {
    "log-ratio": lambda found: log_ratio(found.given_prob, found.other_prob),
    "self-confidence": lambda found: self_confidence(found.given_prob),
    "margin": lambda found: normalised_margin(found.given_prob, found.other_prob),
}
"""Scores that one lean pass can give, by name. The first is the default: it ranked best."""

_BINS = 400
_EDGE_ROWS = 40_000
_OBVIOUS = 0.95


@dataclass(frozen=True)
class LabelErrors(Findings):
    """What is found in a table of probabilities, and what it rests on.

    Attributes:
        rate: The estimated share of wrong labels, 0 to 1, with its interval.
        readings: What the estimate was made of.
        warnings: What makes the findings doubtful, each with a code.
        classes: C.
    """

    rate: RateEstimate
    readings: RateReadings
    warnings: tuple[Warned, ...]
    classes: int


def find_label_errors(
    labels: Any,
    probs: Any,
    features: Any = None,
    *,
    flag: str = "auto",
    score: str = "log-ratio",
    rule: str = DEFAULT_RULE,
    obvious: float = _OBVIOUS,
) -> LabelErrors:
    """Find the labels that held-out probabilities contradict.

    Tables are read in blocks, files included, and the answer is the same to the bit whatever the
    number of threads. Features are held as a whole, and the rounding of their products may depend
    on threads, so that of two equally near rows another one counts.

    Args:
        labels: [N] class numbers 0 to C - 1, -1 for unlabelled: an array, a tensor, a list, a
            series, an Arrow column, or the path of an npy file.
        probs: [N, C] of any of these kinds, rows summing to one; several tables (a list, or one
            array [K, N, C]) count by their mean.
        features: [N, D] of any of these kinds, from any network: the share of the ten nearest rows
            with another label then counts as much as the score. None reads probabilities alone.
        flag: ``auto`` (the estimated number of errors), ``fdr:Q`` or ``top:N``.
        score: One of `SCORES`.
        rule: How the readings of the noise rate are joined, see `errata.detect.how_many`.
        obvious: Flagged rows with a higher `p_wrong` are ``obvious``, the others ``possible``.

    Raises:
        SourceError: The input would give a wrong list: see `errata.detect.one_pass`.
        SettingsError: `flag`, `score`, `rule` or `obvious` is not allowed.

    Example:
        >>> probs = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]]
        >>> found = find_label_errors([0, 0, 1, 1, 1], probs, flag="top:1")
        >>> found.flagged.tolist(), found.proposed.tolist()
        ([False, False, False, False, True], [-1, -1, -1, -1, 0])
    """
    asked = parse_flag(flag)
    if score not in SCORES:
        raise unknown_name("score", score, SCORES)
    if not 0 <= obvious <= 1:
        raise SettingsError(
            f"obvious `{obvious}` is not allowed; allowed: a probability from 0 to 1",
            hint="the default is 0.95",
        )
    table = probability_table(probs)
    found = one_pass(table, vector_of(labels, "labels"))
    suspicion = np.where(found.usable, SCORES[score](found), np.nan)
    if features is not None:
        usable = np.where(found.usable, found.given, -1)
        near = neighbour_disagreement(blocks_of(features, "features"), usable)
        suspicion = (suspicion + near) / 2
    readings = read_rates(found, table, posterior=rule in READS_POSTERIOR)
    rate = estimate_rate(readings, rule=rule)
    p_wrong = spread_rate(suspicion, rate.estimate)
    flagged = _flagged(suspicion, p_wrong, rate.estimate, asked)
    proposed = np.where(found.top == found.given, -1, found.top)
    return LabelErrors(
        suspicion,
        p_wrong,
        _p_proposed(found, p_wrong, proposed),
        flagged,
        proposed,
        np.where(flagged, np.where(p_wrong > obvious, "obvious", "possible"), "fine"),
        lambda row: _reasons(found, row),
        rate,
        readings,
        found.warnings,
        found.classes,
    )


def spread_rate(suspicion: np.ndarray, rate: float) -> np.ndarray:
    """Turn suspicion into probabilities that never fall as it grows and whose mean is the rate.

    The same idea as `errata.detect.decide.calibrate`, at a fraction of the cost: suspicion counts
    as a rough probability, is averaged within at most 400 bins of about equally many rows, and the
    log-odds of the bins are moved until the mean is right. Rows of one bin share one probability.

    Args:
        suspicion: [N] 0 to 1; NaN stays NaN.
        rate: Share of wrong labels among the rows that have a suspicion, 0 to 1.

    Example:
        >>> spread_rate(np.array([0.1, 0.5, 0.9, np.nan]), 0.25).round(2).tolist()
        [0.02, 0.14, 0.59, nan]
    """
    found = np.full(len(suspicion), np.nan)
    known = np.flatnonzero(~np.isnan(suspicion))
    values = suspicion[known]
    if not len(known) or rate <= 0 or rate >= 1:
        found[known] = np.clip(rate, 0, 1)
        return found
    # Every so many rows place the edges well enough.
    ordered = np.sort(values[:: -(-len(values) // _EDGE_ROWS)])
    places = np.linspace(0, len(ordered) - 1, min(_BINS, len(ordered)) + 1)
    edges = np.unique(ordered[places[1:-1].astype(np.int64)])
    place = np.searchsorted(edges, values)
    sizes = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    sums = np.bincount(place, values, minlength=len(edges) + 1)
    rough = isotonic(sums / np.maximum(sizes, 1), np.maximum(sizes, 1e-9))
    inside = np.clip(rough, 1e-4, 1 - 1e-4)
    odds = np.log(inside) - np.log1p(-inside)
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        below = (sizes / (1 + np.exp(-(odds + middle)))).sum() < rate * len(values)
        low, high = (middle, high) if below else (low, middle)
    found[known] = (1 / (1 + np.exp(-(odds + (low + high) / 2))))[place]
    return found


def _flagged(suspicion: np.ndarray, p_wrong: np.ndarray, rate: float, flag: Flag) -> np.ndarray:
    """Choose the suspects [N] bool as `flag_rows` does, without putting all rows in order."""
    rows = np.flatnonzero(~np.isnan(suspicion))
    if flag.kind == "fdr":
        count = _within_alarms(p_wrong[rows], flag.value)
    else:
        count = round(rate * len(rows)) if flag.kind == "auto" else int(flag.value)
    count = min(count, len(rows))
    flagged = np.zeros(len(suspicion), dtype=bool)
    if count:
        values = suspicion[rows]
        least = np.partition(values, len(values) - count)[len(values) - count]
        above = values > least
        # Equal suspicions are taken in the order of the rows.
        level = np.flatnonzero(values == least)[: count - int(above.sum())]
        flagged[rows[above]] = True
        flagged[rows[level]] = True
    return flagged


def _within_alarms(p_wrong: np.ndarray, share: float) -> int:
    """Count the longest list, worst first, whose mean probability of being right is in bounds."""
    alarms = np.cumsum(np.sort(1 - p_wrong)) / np.arange(1, len(p_wrong) + 1)
    return int((alarms <= share + 1e-12).sum())


def _p_proposed(found: OnePass, p_wrong: np.ndarray, proposed: np.ndarray) -> np.ndarray:
    """Give the probability [N] that the proposal is right; NaN without one.

    It is the probability that the label is wrong, times the share of the proposed class among all
    others; an unlabelled row takes the probability as it is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.minimum(found.other_prob / (1 - found.given_prob), 1.0)
    right = np.where(found.given >= 0, p_wrong * share, found.other_prob)
    return np.where(proposed >= 0, right, np.nan)


def _reasons(found: OnePass, row: int) -> tuple[Reason, ...]:
    if not found.usable[row]:
        return ()
    own, other = float(found.given_prob[row]), float(found.other_prob[row])
    confidence = Reason("confidence", own, f"its label has the probability {own:.2f}")
    if found.top[row] == found.given[row]:
        return (confidence,)
    words = f"class {int(found.other[row])} is predicted with probability {other:.2f}"
    return Reason("disagreement", other, words), confidence
