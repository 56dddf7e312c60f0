"""How many labels are wrong: several estimates, and one that chooses among them.

Nobody says which kind of noise the labels have. Random errors are measured against the phantom
null; where that does not match, the margins are split into groups; where neither says anything,
disagreement with the averaged prediction is what is left.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from errata.detect.base import Scores
from errata.detect.groups import WrongGroup, wrong_groups
from errata.detect.mixture import high_loss_posterior
from errata.detect.phantom import NullFit, fit_null, null_posterior, phantom_margins
from errata.detect.reading import (
    averaged_probs,
    column,
    early_margins,
    given_labels,
    labelled,
    mean_per_view,
    rival_probs,
)
from errata.errors import LedgerError
from errata.ledger import Ledger
from errata.streams import numpy_generator

__all__ = [
    "RateEstimate",
    "disagreement_rate",
    "estimate_rate",
    "loss_mixture_rate",
    "margin_group_rate",
    "phantom_rate",
]

_RESAMPLES = 30
_FIRST = (0.1, 0.25)
_RESAMPLED_ROWS = 20_000
_WIDER = 0.125
"""Share of its width that the interval grows by at either end, for what the model gets wrong. The
smallest that covers the truth in all of 20 planted runs on digits, of seeds that test nothing: by
split conformal inference it covers at least 95 % of further runs like these
(``benchmarks/rate_interval.py``). Other data are no runs like these."""


@dataclass(frozen=True)
class RateEstimate:
    """The share of wrong labels among the labelled rows.

    Attributes:
        estimate: 0 to 1.
        low: Lower end of a 95 % interval.
        high: Upper end.
        method: What the estimate rests on most, in a few words.
        posterior: [N] rough probability of each row to be wrong; NaN where nothing is known.
        trust: How far the phantom null explains the errors, 0 to 1.
    """

    estimate: float
    low: float
    high: float
    method: str
    posterior: np.ndarray | None = None
    trust: float = 0.0


def disagreement_rate(probs: np.ndarray, given: np.ndarray) -> float:
    """Share of rows whose averaged prediction is another class, less the model's own errors.

    A disagreeing row counts by one minus the odds of the given label against the predicted one:
    where the model wavers, its own error is as likely as that of the label.

    Args:
        probs: [N, C] averaged or held-out prediction; NaN rows do not count.
        given: [N] class numbers; -1 does not count.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]])
        >>> disagreement_rate(probs, np.array([0, 0, 0, 0]))
        0.4375
    """
    doubt = _disagreement(probs, given)
    return float(np.nanmean(doubt)) if not np.isnan(doubt).all() else 0.0


def loss_mixture_rate(loss: np.ndarray) -> float:
    """Mean probability of belonging to the group of high losses; 0 where there is one group.

    A rough estimate: with few errors the higher group is that of hard rows.
    """
    posterior = high_loss_posterior(loss)
    return float(np.nanmean(posterior)) if not np.isnan(posterior).all() else 0.0


def phantom_rate(observed: np.ndarray, null: np.ndarray) -> NullFit:
    """Measure random errors against labels that were never trained on, see `fit_null`."""
    return fit_null(observed[~np.isnan(observed)], null)


def margin_group_rate(fits: list[WrongGroup]) -> tuple[float, float, float]:
    """Join fits of margins into a rate, its uncertainty, and the part that stays unresolved.

    Returns:
        Rate, half width of a 95 % interval, and the further share of rows that may be wrong or
        hard; all 0 to 1.
    """
    if not fits:
        return 0.0, 0.0, 0.0
    weights = np.array([fit.weight for fit in fits])
    weights /= weights.sum()
    raw = np.array([fit.rate for fit in fits])
    kept = raw * np.array([fit.resolved for fit in fits])
    rate = float(weights @ kept)
    spread = float(np.sqrt(weights @ (kept - rate) ** 2))
    sampling = float(weights @ np.array([fit.deviation for fit in fits]))
    doubt = float(weights @ (np.array([fit.overlap for fit in fits]) * (kept > 0)))
    return rate, 1.96 * float(np.hypot(spread, sampling)) + doubt / 2, float(weights @ (raw - kept))


def estimate_rate(ledger: Ledger, scores: Scores | None = None) -> RateEstimate:
    """Estimate the share of wrong labels, without knowing what kind of errors they are.

    The interval holds what single estimates say, what chance does to a count of rows, and a part
    for what all of them get wrong. Errors that follow the look of the samples can still escape it.

    Args:
        ledger: What training recorded.
        scores: Unused beside the ledger; kept so that other estimators fit the same place.

    Raises:
        LedgerError: The ledger holds neither predictions nor margins.
    """
    del scores
    return _widened(_estimate(ledger))


def _widened(found: RateEstimate) -> RateEstimate:
    more = _WIDER * (found.high - found.low)
    return replace(found, low=max(0.0, found.low - more), high=min(1.0, found.high + more))


def _estimate(ledger: Ledger) -> RateEstimate:
    given = given_labels(ledger)
    probs = averaged_probs(ledger)
    held_out = column(ledger, "prob_oof") if ledger.has("prob_oof") else None
    margins = _margin_columns(ledger, given, probs, held_out)
    if not margins:
        raise LedgerError(
            "the ledger holds neither margins nor predictions, so no rate can be estimated",
            hint="train with the observer `Track`, or run folds",
        )
    rng = numpy_generator(0, "rate")
    doubts = [_disagreement(each, given) for each in (probs, held_out) if each is not None]
    doubts = [doubt for doubt in doubts if not np.isnan(doubt).all()]
    estimate = _from_groups(margins, given, doubts, rng)
    first = _first_margins(ledger, given, probs)
    if first is not None:
        memory = _memory(ledger, given, first)
        if memory > 0:
            estimate = _blend(estimate, _from_groups([first], given, [], rng), memory)
    if not all(map(ledger.has, ("margin_sum", "phantom_margin_sum", "times_seen"))):
        return estimate
    return _with_null(ledger, estimate, rng)


def _from_groups(
    margins: list[np.ndarray],
    given: np.ndarray,
    doubts: list[np.ndarray],
    rng: np.random.Generator,
) -> RateEstimate:
    """Estimate from groups of margins, or from disagreement where rows are too few for groups."""
    fits = [fit for values in margins for fit in wrong_groups(values, given, rng)]
    below = [float((values < 0).sum() / max(1, (~np.isnan(values)).sum())) for values in margins]
    if fits:
        posterior = _group_posterior(fits, len(given))
        estimate = _join_groups(fits, doubts, below, int((~np.isnan(posterior)).sum()))
    else:
        posterior = doubts[-1] if doubts else np.full(len(given), np.nan)
        rate = float(np.nanmean(posterior)) if doubts else 0.0
        known = int((~np.isnan(posterior)).sum())
        estimate = _interval(rate, 0.0, max(below), known, "disagreement")
    return replace(estimate, posterior=posterior)


def _join_groups(
    fits: list[WrongGroup], doubts: list[np.ndarray], below: list[float], count: int
) -> RateEstimate:
    """Join groups of margins with disagreement, and give the interval that holds both."""
    rate, half, unresolved = margin_group_rate(fits)
    low, high = rate - half, rate + half + unresolved
    # Before anything is memorised, nearly every wrong label has a negative margin.
    joined = min(rate, max(below))
    others = [float(np.nanmean(doubt)) for doubt in doubts]
    if doubts and rate > 0:
        share = float(np.nanmean(doubts[-1] > 0))
        clear = others[-1] / share if share > 0 else 0.0
        # Where most disagreements are clear-cut, little is memorised; if the fits differ as well,
        # they take in hard rows that are not wrong.
        weight = 0.5 * float(np.clip((clear - 0.5) / 0.2, 0, 1))
        weight *= float(np.clip((half / rate - 0.1) / 0.1, 0, 1))
        joined = (1 - weight) * joined + weight * others[-1]
    low, high = min(low, joined, *others), max(high, joined, *others)
    return _interval(joined, low, high, count, "groups of margins")


def _memory(ledger: Ledger, given: np.ndarray, first: np.ndarray) -> float:
    """Say how far training has memorised the labels it first disagreed with, 0 to 1.

    In audits of digits the last sweep disagreed with less than a third as many rows as the first
    epochs did, and then the margins of all epochs miss half of the errors. On Fashion-MNIST and
    CIFAR-10 it was half and more.
    """
    if not ledger.has("final_prob"):
        return 0.0
    probs = column(ledger, "final_prob")
    known = ~np.isnan(first) & ~np.isnan(probs[:, 0])
    early = float((first[known] < 0).mean()) if known.any() else 0.0
    late = float((probs.argmax(1) != given)[known].mean()) if known.any() else 0.0
    return float(np.clip((0.45 - late / early) / 0.1, 0, 1)) if early > 0 else 0.0


def _blend(one: RateEstimate, other: RateEstimate, share: float) -> RateEstimate:
    """Move by `share` from one estimate to another; the interval holds both."""
    assert one.posterior is not None
    assert other.posterior is not None
    return RateEstimate(
        (1 - share) * one.estimate + share * other.estimate,
        min((1 - share) * one.low + share * other.low, one.estimate, other.estimate),
        max((1 - share) * one.high + share * other.high, one.estimate, other.estimate),
        one.method if share < 0.5 else other.method,
        (1 - share) * one.posterior + share * other.posterior,
    )


def _interval(rate: float, low: float, high: float, count: int, method: str) -> RateEstimate:
    # Seeing no error in n rows still allows for about 3 / n of them.
    sampling = 3 / max(count, 1)
    return RateEstimate(rate, max(0.0, low - sampling), min(1.0, high + sampling), method)


def _with_null(ledger: Ledger, groups: RateEstimate, rng: np.random.Generator) -> RateEstimate:
    """Move from the groups to the phantom null as far as it explains the errors."""
    observed, null = phantom_margins(ledger)
    known = ~np.isnan(observed)
    values = observed[known]
    fit = fit_null(values, null)
    trust = fit.trust
    if trust == 0:
        return groups
    # Smaller resamples save time; their deviation is larger by the root of the share.
    size = min(len(values), _RESAMPLED_ROWS)
    again = [
        fit_null(rng.choice(values, size), rng.choice(null, size)).rate for _ in range(_RESAMPLES)
    ]
    sampling = float(np.std(again)) * np.sqrt(size / len(values))
    half = 1.96 * float(sampling) + fit.spread + 0.02 * fit.rate
    rate = trust * fit.rate + (1 - trust) * groups.estimate
    gap = (1 - trust) * abs(fit.rate - groups.estimate)
    # Where the groups say otherwise, the interval holds what they say as well.
    low = min(trust * (fit.rate - half) + (1 - trust) * groups.low - gap, groups.estimate)
    high = max(trust * (fit.rate + half) + (1 - trust) * groups.high + gap, groups.estimate)
    method = "phantom labels" if trust > 0.5 else groups.method
    assert groups.posterior is not None
    blended = groups.posterior.copy()
    rest = np.nan_to_num(blended[known])
    blended[known] = trust * null_posterior(values, null, fit) + (1 - trust) * rest
    return RateEstimate(rate, max(0.0, low), min(1.0, high), method, blended, trust)


def _group_posterior(fits: list[WrongGroup], rows: int) -> np.ndarray:
    if not fits:
        return np.full(rows, np.nan)
    weights = np.array([fit.weight for fit in fits])
    stack = np.stack([fit.posterior * fit.resolved for fit in fits])
    known = ~np.isnan(stack)
    total = (weights[:, None] * known).sum(0)
    joined = (weights[:, None] * np.nan_to_num(stack)).sum(0)
    return np.where(total > 0, joined / np.maximum(total, 1e-12), np.nan)


def _margin_columns(
    ledger: Ledger, given: np.ndarray, probs: np.ndarray | None, held_out: np.ndarray | None
) -> list[np.ndarray]:
    """Collect every kind of margin [N] the ledger can give."""
    found = []
    if ledger.has("margin_sum") and ledger.has("times_seen"):
        times = column(ledger, "times_seen")
        found.append(labelled(ledger, mean_per_view(column(ledger, "margin_sum"), times)))
    if ledger.has("loss_curve") and probs is not None:
        filled = ledger.filled("loss_curve").cpu().numpy()
        found.append(early_margins(column(ledger, "loss_curve"), filled, probs, given))
    for each in (held_out, probs if not found else None):
        if each is not None:
            own, rival = rival_probs(each, given)
            found.append(np.log(own + 1e-3) - np.log(rival + 1e-3))
    return found


def _first_margins(
    ledger: Ledger, given: np.ndarray, probs: np.ndarray | None
) -> np.ndarray | None:
    """Give margins [N] of the first epochs, where the ledger has a curve."""
    if probs is None or not ledger.has("loss_curve"):
        return None
    filled = ledger.filled("loss_curve").cpu().numpy()
    return early_margins(column(ledger, "loss_curve"), filled, probs, given, window=_FIRST)


def _disagreement(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    own, rival = rival_probs(probs, given)
    doubt = 1 - own / np.maximum(rival, 1e-12)
    return np.asarray(np.where(np.isnan(own), np.nan, np.maximum(doubt, 0)))
