"""How many labels are wrong: several opinions, pooled into one estimate with an interval.

Nobody says which kind of noise the labels have. Margins of several stretches of training are split
into groups; random errors are measured against the phantom null as well; where rows are too few for
groups, disagreement with the averaged prediction is what is left.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from errata.detect.base import Scores
from errata.detect.groups import wrong_groups
from errata.detect.phantom import fit_null, null_posterior, phantom_margins
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

__all__ = ["Opinion", "RateEstimate", "disagreement", "estimate_rate", "margin_opinions", "pooled"]

_RESAMPLES = 30
_RESAMPLED_ROWS = 20_000
_FIRST = (0.1, 0.25)
_WIDTH = 1.5
"""Half width of the interval in units of its scale. It covers 34 of 36 planted runs on digits, of
seeds that test nothing; 1.3 is what split conformal inference asks for to cover 90 % of runs like
these (``benchmarks/rate_interval.py``). Other data are no runs like these."""
_MODEL_ERROR = 0.05
"""Share of the rate by which opinions are off even where all agree. Our choice."""


@dataclass(frozen=True)
class RateEstimate:
    """The share of wrong labels among the labelled rows.

    Attributes:
        estimate: 0 to 1.
        low: Lower end of a 95 % interval.
        high: Upper end.
        method: What the estimate rests on most, in a few words.
        posterior: [N] rough probability of each row to be wrong; NaN where nothing is known.
    """

    estimate: float
    low: float
    high: float
    method: str
    posterior: np.ndarray | None = None


@dataclass(frozen=True)
class Opinion:
    """What one look at the ledger says of the rate.

    Attributes:
        rate: Share of wrong labels, 0 to 1.
        doubt: Share of rows that it cannot tell right from wrong, 0 to 1.
        posterior: [N] probability of each row to be wrong; NaN where nothing is known.
        weight: How much it counts beside others, above 0.
        hard: Further share of rows that may be wrong or only hard, 0 to 1.
        method: What it rests on.
    """

    rate: float
    doubt: float
    posterior: np.ndarray
    weight: float = 1.0
    hard: float = 0.0
    method: str = "groups of margins"


def disagreement(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give one minus the odds of the given label against the predicted class [N], at least 0.

    Where the model wavers, its own error is as likely as that of the label.

    Args:
        probs: [N, C] averaged or held-out prediction; a row of NaN gives NaN.
        given: [N] class numbers; -1 gives NaN.

    Example:
        >>> disagreement(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).tolist()
        [0.0, 0.75]
    """
    own, rival = rival_probs(probs, given)
    doubt = 1 - own / np.maximum(rival, 1e-12)
    return np.asarray(np.where(np.isnan(own), np.nan, np.maximum(doubt, 0)))


def margin_opinions(margins: np.ndarray, given: np.ndarray) -> list[Opinion]:
    """Judge margins by the groups in them, and, counting as much, by the share below zero.

    Groups alone miss wrong labels that lie among hard rows; both count as far as groups are clear.

    Args:
        margins: [N] log-odds or logits of the given label against the best other; NaN is unknown.
        given: [N] class numbers.

    Returns:
        None where fewer than 60 rows are known.
    """
    fits = wrong_groups(margins, given)
    if not fits:
        return []
    found = [
        Opinion(
            fit.rate * fit.resolved,
            fit.overlap * (fit.rate * fit.resolved > 0),
            fit.posterior * fit.resolved,
            fit.weight,
            fit.rate * (1 - fit.resolved),
        )
        for fit in fits
    ]
    weights = np.array([fit.weight for fit in fits])
    below = float((margins < 0).sum() / (~np.isnan(margins)).sum())
    raw, kept = (
        float(weights @ each) for each in ([f.rate for f in fits], [o.rate for o in found])
    )
    resolved = kept / raw if raw > 0 else 0.0
    share = Opinion(
        below * resolved,
        float(np.average([each.doubt for each in found], weights=weights)),
        np.where(np.isnan(margins), np.nan, (margins < 0) * resolved),
        float(weights.sum()),
        below * (1 - resolved),
    )
    return [*found, share]


def pooled(opinions: list[Opinion], count: int) -> tuple[RateEstimate, float]:
    """Join opinions into an estimate: their weighted mean, and an interval around it.

    The scale holds how far they lie apart, how many rows they cannot tell, what chance does to a
    count, and a part for what all get wrong. Seeing no error in n rows still allows for about 3 / n
    of them. Opinions share their data, so more of them make it no surer (Stone 1961, linear pool).

    Args:
        opinions: At least one.
        count: Rows with a known margin or prediction.

    Returns:
        The estimate, and the scale of its error, 0 to 1.
    """
    weights = np.array([each.weight for each in opinions])
    weights /= weights.sum()
    rates = np.array([each.rate for each in opinions])
    rate = float(weights @ rates)
    apart = float(weights @ (rates - rate) ** 2)
    doubt = float(weights @ np.array([each.doubt for each in opinions]))
    hard = float(weights @ np.array([each.hard for each in opinions]))
    chance = rate * (1 - rate) / max(count, 1)
    scale = float(np.sqrt(apart + doubt**2 + chance + (_MODEL_ERROR * rate) ** 2))
    half = _WIDTH * (scale + 3 / max(count, 1))
    stack = np.stack([each.posterior for each in opinions])
    mass = weights @ ~np.isnan(stack)
    posterior = weights @ np.nan_to_num(stack) / np.where(mass > 0, mass, np.nan)
    method = max(opinions, key=lambda each: each.weight).method
    low, high = max(0.0, rate - half), min(1.0, rate + half + hard)
    return RateEstimate(rate, low, high, method, posterior), scale


def estimate_rate(ledger: Ledger, scores: Scores | None = None) -> RateEstimate:
    """Estimate the share of wrong labels, without knowing what kind of errors they are.

    Errors that follow the look of the samples can still escape the interval.

    Args:
        ledger: What training recorded.
        scores: Unused beside the ledger; kept so that other estimators fit the same place.

    Raises:
        LedgerError: The ledger holds neither predictions nor margins.
    """
    del scores
    given = given_labels(ledger)
    probs = averaged_probs(ledger)
    held_out = column(ledger, "prob_oof") if ledger.has("prob_oof") else None
    windows = _windows(ledger, given, probs, held_out)
    if not windows:
        raise LedgerError(
            "the ledger holds neither margins nor predictions, so no rate can be estimated",
            hint="train with the observer `Track`, or run folds",
        )
    opinions = _weighing([each for w in windows for each in margin_opinions(w, given)], 1.0)
    first = _first_margins(ledger, given, probs)
    memory = 0.0 if first is None else _memory(ledger, given, first)
    early = [] if first is None or not memory else margin_opinions(first, given)
    if early:
        opinions = [*_weighing(opinions, 1 - memory), *_weighing(early, memory)]
    count = max(int((~np.isnan(w)).sum()) for w in windows)
    if not opinions:
        best = next((each for each in (held_out, probs) if each is not None), None)
        opinions = [_from_disagreement(windows, best, given)]
    found, scale = pooled(opinions, count)
    null = _from_null(ledger)
    if null is None or scale == 0:
        return found
    share = null.weight * scale**2 / (scale**2 + null.doubt**2)
    both = [*_weighing(opinions, 1 - share), *_weighing([null], share)]
    found = pooled(both, count)[0]
    return replace(found, method=null.method if share > 0.5 else opinions[0].method)


def _weighing(opinions: list[Opinion], total: float) -> list[Opinion]:
    """Scale weights so that they sum to `total`; opinions without weight are left out."""
    whole = sum(each.weight for each in opinions)
    return [replace(each, weight=total * each.weight / whole) for each in opinions if total > 0]


def _from_disagreement(
    windows: list[np.ndarray], probs: np.ndarray | None, given: np.ndarray
) -> Opinion:
    """Judge rows too few for groups; where rates may lie reaches to the share below zero."""
    doubts = np.full(len(given), np.nan) if probs is None else disagreement(probs, given)
    known = doubts[~np.isnan(doubts)]
    rate = float(known.mean()) if len(known) else 0.0
    below = [float((w < 0).sum() / max(1, (~np.isnan(w)).sum())) for w in windows]
    return Opinion(rate, max(rate, *below), doubts, method="disagreement")


def _from_null(ledger: Ledger) -> Opinion | None:
    """Measure random errors by the phantom null; the weight says how far it explains them."""
    if not all(map(ledger.has, ("margin_sum", "phantom_margin_sum", "times_seen"))):
        return None
    observed, null = phantom_margins(ledger)
    known = ~np.isnan(observed)
    values = observed[known]
    fit = fit_null(values, null)
    if fit.trust == 0:
        return None
    # Smaller resamples save time; their deviation is larger by the root of the share.
    rng = numpy_generator(0, "rate")
    size = min(len(values), _RESAMPLED_ROWS)
    again = [
        fit_null(rng.choice(values, size), rng.choice(null, size)).rate for _ in range(_RESAMPLES)
    ]
    sampling = float(np.std(again)) * np.sqrt(size / len(values))
    doubt = float(np.sqrt(sampling**2 + fit.spread**2 + (fit.rate * fit.misfit) ** 2))
    posterior = np.full(len(observed), np.nan)
    posterior[known] = null_posterior(values, null, fit)
    return Opinion(fit.rate, doubt, posterior, fit.trust, method="phantom labels")


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


def _windows(
    ledger: Ledger, given: np.ndarray, probs: np.ndarray | None, held_out: np.ndarray | None
) -> list[np.ndarray]:
    """Collect every kind of margin [N] the ledger can give, of training as a whole."""
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
