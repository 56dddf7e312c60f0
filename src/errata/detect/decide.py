"""From suspicion to a decision: probabilities, flags, tiers and reasons.

Shapes: N rows, C classes, K detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from errata.detect.base import Scores
from errata.detect.error_control import (
    Flag,
    flag_against_right,
    flag_by_probability,
    parse_flag,
)
from errata.detect.open_set import NO_CLASS
from errata.detect.phantom import isotonic
from errata.detect.rate import RateEstimate
from errata.detect.reading import averaged_probs, given_labels, rank_suspicion
from errata.errors import SettingsError
from errata.ledger import Ledger
from errata.record import Reason

__all__ = [
    "Findings",
    "Flag",
    "calibrate",
    "decide",
    "flag_rows",
    "parse_flag",
    "proposal_probs",
    "sharpening",
]

_PLAINEST = ("disagreement", "dropped", "alike", "margin", "confidence")
"""Kinds of reasons that need no explanation come before those that do."""
_MOST_REASONS = 3
_CAUTION = 0.5
"""How far from the estimated rate towards the low end of its interval `fdr` goes. At a quarter,
`fdr:0.2` breaks its promise by 1.3 points on uniform errors of Fashion-MNIST; at the end itself
lists are short. Chosen on the runs of the benchmark, which is not blind to it."""
_MOST_SHARPENING = 20.0


@dataclass(frozen=True)
class Findings:
    """What detection decided; arrays are in the order of the rows.

    Attributes:
        suspicion: [N] 0 to 1, orders the rows; NaN where a row has no label or was never seen.
        p_wrong: [N] calibrated probability that the given label is wrong; NaN as above.
        p_proposed: [N] probability that the proposed label is right; NaN where there is none.
        flagged: [N] bool, the suspects.
        proposed: [N] class that fits better, -1 for none.
        tier: [N] ``obvious``, ``possible`` or ``fine``.
        why: Gives the reasons of one row.
    """

    suspicion: np.ndarray
    p_wrong: np.ndarray
    p_proposed: np.ndarray
    flagged: np.ndarray
    proposed: np.ndarray
    tier: np.ndarray
    why: Callable[[int], tuple[Reason, ...]]

    def reasons(self, row: int) -> tuple[Reason, ...]:
        """Say why a row is suspicious, the strongest evidence first; empty where nothing is."""
        return self.why(row)


def calibrate(
    suspicion: np.ndarray, rate: float, posterior: np.ndarray | None = None
) -> np.ndarray:
    """Turn suspicion into probabilities that never fall as it grows and whose mean is the rate.

    The posterior of single rows is averaged along the order of suspicion; then its log-odds are
    moved so that the mean is right.

    Args:
        suspicion: [N] 0 to 1; NaN stays NaN.
        rate: Share of wrong labels among the rows that have a suspicion.
        posterior: [N] rough probability of being wrong; None or NaN only where none is known.
    """
    found = np.full(len(suspicion), np.nan)
    known = np.flatnonzero(~np.isnan(suspicion))
    if not len(known):
        return found
    if rate <= 0 or rate >= 1:
        found[known] = float(np.clip(rate, 0, 1))
        return found
    ranks = rank_suspicion(suspicion)[known]
    rough = np.full(len(known), np.nan) if posterior is None else posterior[known]
    if np.isnan(rough).all() or np.nanmax(rough) <= 0:
        # Nothing is known of single rows: a step as soft as detectors of AUROC .97 have it.
        rough = 1 / (1 + np.exp(-(ranks - (1 - rate)) / 0.05))
    odds = _odds(_smooth(ranks, np.where(np.isnan(rough), rate, rough)))
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        below = float((1 / (1 + np.exp(-(odds + middle)))).mean()) < rate
        low, high = (middle, high) if below else (low, middle)
    found[known] = 1 / (1 + np.exp(-(odds + (low + high) / 2)))
    return found


def flag_rows(
    suspicion: np.ndarray,
    p_wrong: np.ndarray,
    rate: float,
    flag: Flag,
    verified: np.ndarray | None = None,
) -> np.ndarray:
    """Choose the suspects [N] bool: the worst rows, as many as the operating point says.

    ``auto`` flags the estimated number of wrong labels. ``fdr`` flags the longest list, worst
    first, in which the mean probability of a right label is at most its value. Where enough
    rows were found right by people, those bound the false alarms instead, see `flag_against_right`,
    and what people found stands.

    Args:
        suspicion: [N]; rows with NaN are never flagged.
        p_wrong: [N].
        rate: Share of wrong labels among the rows with a suspicion.
        flag: The operating point.
        verified: [N] 1 where a person found the given label right, 0 wrong, -1 unknown; a random
            sample of the rows. Read for ``fdr`` alone.
    """
    known = int((~np.isnan(suspicion)).sum())
    if flag.kind == "fdr":
        if verified is None or not _is_enough(suspicion, verified, rate * flag.value):
            return flag_by_probability(suspicion, p_wrong, flag.value)
        right = suspicion[(verified == 1) & ~np.isnan(suspicion)]
        unjudged = np.where(verified < 0, suspicion, np.nan)
        wrong = (verified == 0) & ~np.isnan(suspicion)
        return np.asarray(flag_against_right(unjudged, right, flag.value) | wrong)
    count = round(rate * known) if flag.kind == "auto" else int(flag.value)
    # NaN sorts to the end; equal suspicions are taken in the order of the rows.
    order = np.argsort(-suspicion, kind="stable")[:known]
    flagged = np.zeros(len(suspicion), dtype=bool)
    flagged[order[:count]] = True
    return flagged


def sharpening(probs: np.ndarray, given: np.ndarray, p_wrong: np.ndarray) -> float:
    """Find the exponent that makes averaged predictions as sure as they are right.

    A network trained on wrong labels spreads its probability over the classes, although its best
    class is often right. How often, is read from the rows whose given label counts as right: each
    with one minus its `p_wrong`. Sharpening never makes predictions less sure.

    Args:
        probs: [N, C], rows summing to one; NaN rows do not count.
        given: [N] class numbers; -1 does not count.
        p_wrong: [N]; NaN does not count.
    """
    rows = np.flatnonzero((given >= 0) & ~np.isnan(p_wrong) & ~np.isnan(probs[:, 0]))
    # Twenty thousand rows fix one number well enough.
    rows = rows[:: max(1, len(rows) // 20_000)]
    if not len(rows):
        return 1.0
    logs = np.log(probs[rows].astype(np.float64) + 1e-12)
    logs -= logs.max(1, keepdims=True)
    right = 1 - p_wrong[rows]
    agrees = logs[np.arange(len(rows)), given[rows]] == 0
    accuracy = float((right * agrees).sum() / max(right.sum(), 1e-12))
    low, high = 1.0, _MOST_SHARPENING
    for _ in range(20):
        middle = (low + high) / 2
        unsure = float((1 / np.exp(middle * logs).sum(1)).mean()) < accuracy
        low, high = (middle, high) if unsure else (low, middle)
    return (low + high) / 2


def proposal_probs(
    probs: np.ndarray | None, given: np.ndarray, proposed: np.ndarray, p_wrong: np.ndarray
) -> np.ndarray:
    """Give the probability [N] that the proposed label is right; NaN without a proposal.

    It is the probability that the given label is wrong, times the share that the proposed class has
    among all others in the sharpened prediction. An unlabelled row takes its sharpened prediction.

    Args:
        probs: [N, C] averaged prediction, or None.
        given: [N] class numbers; -1 is unlabelled.
        proposed: [N] class numbers; -1 is none.
        p_wrong: [N].
    """
    found = np.full(len(given), np.nan)
    rows = np.flatnonzero(proposed >= 0)
    if probs is None or not len(rows):
        return found
    sharp = probs[rows].astype(np.float64) ** sharpening(probs, given, p_wrong)
    labelled = given[rows] >= 0
    sharp[labelled, given[rows][labelled]] = 0
    chosen = sharp[np.arange(len(rows)), proposed[rows]]
    share = chosen / np.maximum(sharp.sum(1), 1e-300)
    found[rows] = np.where(labelled, p_wrong[rows] * share, share)
    return found


def decide(
    ledger: Ledger,
    scores: Sequence[Scores],
    joined: Scores,
    rate: RateEstimate,
    *,
    flag: str = "auto",
    obvious: float = 0.95,
    verified: np.ndarray | None = None,
    open_set: Scores | None = None,
) -> Findings:
    """Decide which labels are suspects.

    Args:
        ledger: What training recorded.
        scores: [K] what the detectors said; they give the reasons.
        joined: The consensus of them; it gives the order and the proposals.
        rate: The estimated share of wrong labels.
        flag: ``auto``, ``fdr:Q`` or ``top:N``, see `flag_rows`.
        obvious: Flagged rows with a higher `p_wrong` are ``obvious``, the others ``possible``.
        verified: [N] what people found of a random sample of rows, see `flag_rows`.
        open_set: What `errata.detect.open_set` said; suspects that it says show no class get no
            proposal, and its reason comes first.

    Raises:
        SettingsError: `flag` or `obvious` is not allowed.
    """
    asked = parse_flag(flag)
    if not 0 <= obvious <= 1:
        raise SettingsError(
            f"obvious `{obvious}` is not allowed; allowed: a probability from 0 to 1",
            hint="the default is 0.95",
        )
    given = given_labels(ledger)
    suspicion = np.where(given >= 0, joined.suspicion, np.nan)
    p_wrong = calibrate(suspicion, rate.estimate, rate.posterior)
    cautious = rate.estimate - _CAUTION * max(0.0, rate.estimate - rate.low)
    counted = calibrate(suspicion, cautious, rate.posterior) if asked.kind == "fdr" else p_wrong
    flagged = flag_rows(suspicion, counted, rate.estimate, asked, verified)
    tier = np.where(flagged, np.where(p_wrong > obvious, "obvious", "possible"), "fine")
    no_class = flagged & _has_no_class(open_set, len(given))
    proposed = np.where(no_class, -1, joined.proposed)
    p_proposed = proposal_probs(averaged_probs(ledger), given, proposed, p_wrong)
    ranks = np.stack([rank_suspicion(each.suspicion) for each in scores])

    def why(row: int) -> tuple[Reason, ...]:
        found = _reasons(scores, ranks[:, row], row)
        if open_set is None or not no_class[row]:
            return found
        return (_reason(open_set, row), *found)[:_MOST_REASONS]

    return Findings(suspicion, p_wrong, p_proposed, flagged, proposed, tier, why)


def _has_no_class(open_set: Scores | None, rows: int) -> np.ndarray:
    values = np.zeros(rows) if open_set is None or open_set.values is None else open_set.values
    return np.asarray(np.nan_to_num(values) > NO_CLASS)


def _is_enough(suspicion: np.ndarray, verified: np.ndarray, least_p_value: float) -> bool:
    """Tell whether right rows are enough to flag as many rows as are expected to be wrong."""
    count = int(((verified == 1) & ~np.isnan(suspicion)).sum())
    return (count + 1) * least_p_value >= 1


def _reasons(scores: Sequence[Scores], ranks: np.ndarray, row: int) -> tuple[Reason, ...]:
    """Take the detectors to which the row is more suspicious than most, plainest words first."""
    high = [k for k in range(len(scores)) if ranks[k] > 0.5]
    high.sort(key=lambda k: (_plainness(scores[k].kind), -ranks[k]))
    chosen = [scores[k] for k in high[:_MOST_REASONS]]
    return tuple(_reason(each, row) for each in chosen)


def _reason(said: Scores, row: int) -> Reason:
    value = float("nan") if said.values is None else float(said.values[row])
    return Reason(said.kind or "detector", value, said.words(row))


def _plainness(kind: str) -> int:
    return _PLAINEST.index(kind) if kind in _PLAINEST else len(_PLAINEST)


def _smooth(ranks: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Average `rough` [n] over neighbours in rank and make it rise with the rank."""
    bins = int(np.clip(len(ranks) // 10, 4, 400))
    place = np.minimum((ranks * bins).astype(np.int64), bins - 1)
    sizes = np.bincount(place, minlength=bins).astype(np.float64)
    used = sizes > 0
    means = np.bincount(place, rough, minlength=bins)[used] / sizes[used]
    middles = np.bincount(place, ranks, minlength=bins)[used] / sizes[used]
    return np.asarray(np.interp(ranks, middles, isotonic(means, sizes[used])))


def _odds(probs: np.ndarray) -> np.ndarray:
    inside = np.clip(probs, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside) - np.log1p(-inside))
