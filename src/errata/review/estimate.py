"""What a review has shown: errors that are left, agreement, when to stop.

Controls are rows drawn at random from all that nobody has reviewed, apart for flagged and unflagged
rows. They say how many errors are left in the rest; the suspects say nothing of it, as they were
chosen for being suspicious.

Shapes: N rows, n reviewed rows, m controls of one stratum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from errata.review.journal import Verdict

__all__ = ["Left", "agreement", "errors_left", "may_stop"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POINTS = 512
_NEGLIGIBLE = 20.0
"""Counts whose log-probability is this far below the best are left out."""


@dataclass(frozen=True)
class Left:
    """Wrong labels among the rows that nobody has reviewed.

    Attributes:
        estimate: How many.
        low: Lower end of a 95 % interval.
        high: Its upper end.
        controls: Random rows that this rests on.
    """

    estimate: float
    low: float
    high: float
    controls: int


class _Draws(NamedTuple):
    """Controls of one stratum, and the pool that each was drawn from."""

    left: int
    """Rows of the stratum that nobody has reviewed."""
    wrong: Bools
    """Whether each control was wrong, [m]."""
    pool: Ints
    """Rows that each was drawn from, itself included, [m]."""
    found: Ints
    """Wrong ones among those that were found later, itself included, [m]."""


def errors_left(
    flagged: Bools,
    reviewed: Ints,
    wrong: Bools,
    control: Bools,
    *,
    suspicion: Floats | None = None,
) -> Left:
    """Estimate the wrong labels among rows that nobody has reviewed.

    Every control was drawn from the rows that nobody had reviewed then. Those that are wrong and
    were found since are known, so each draw says something of the rest alone, however the suspects
    were chosen between the draws: no later choice makes the estimate lean. In each stratum the
    number left has the posterior of its draws under Jeffreys' prior; drawing without replacement
    makes it sure where all is reviewed. The interval is that of the sum, with equal tails; for
    its lower end, strata in which no control was wrong hold no errors. A control that is more
    suspicious than every row left speaks of rows that are left no longer, and is not counted.

    Args:
        flagged: [N].
        reviewed: Rows with a decision, in the order in which they got it, [n].
        wrong: Whether each had a wrong label, [n].
        control: Whether each was drawn at random, [n].
        suspicion: [N], by which suspects came up, NaN for rows that never come, which are no
            part of the estimate; None counts every control.

    Example:
        >>> flagged, controls = np.zeros(1000, bool), np.arange(200)
        >>> left = errors_left(flagged, controls, controls < 10, np.ones(200, bool))
        >>> left.estimate, left.low, left.high
        (40.0, 18.0, 73.0)
    """
    strata = [
        _draws(flagged == stratum, reviewed, wrong, control, suspicion) for stratum in (True, False)
    ]
    first, second = (_spread(draws) for draws in strata)
    high = np.quantile(np.add.outer(first, second), 0.975, method="inverted_cdf")
    # Where no control was wrong, nothing speaks against a stratum without errors, though the
    # posterior has little room for none at all.
    first, second = (
        spread if draws.wrong.any() else np.zeros(1)
        for spread, draws in zip((first, second), strata, strict=True)
    )
    low = np.quantile(np.add.outer(first, second), 0.025, method="inverted_cdf")
    mean = sum(map(_mean, strata))
    used = sum(len(draws.wrong) for draws in strata)
    return Left(mean, float(min(low, mean)), float(max(high, mean)), used)


def _draws(
    members: Bools, reviewed: Ints, wrong: Bools, control: Bools, suspicion: Floats | None
) -> _Draws:
    """Collect the controls that speak of the rows left in a stratum."""
    rest = members.copy()
    rest[reviewed] = False
    inside = members[reviewed]
    if suspicion is not None:
        rest &= ~np.isnan(suspicion)
        inside &= suspicion[reviewed] <= suspicion[rest].max(initial=-np.inf)
    left = int(np.count_nonzero(rest))
    wrong, control = wrong[inside], control[inside]
    later = np.arange(len(wrong), 0, -1)
    found = wrong[::-1].cumsum()[::-1]
    return _Draws(left, wrong[control], left + later[control], found[control])


def _mean(draws: _Draws) -> float:
    """Estimate how many are wrong among the rows left, without leaning to either side."""
    hits, rows = int(draws.wrong.sum()), len(draws.wrong)
    if not rows or not draws.left:
        return 0.5 * draws.left
    # Controls count as part of what is left, in every draw alike; what suspects found after a draw
    # is taken off. Without suspects between the draws the share is that of wrong controls.
    later_rows = np.arange(rows, 0, -1)
    later_hits = draws.wrong[::-1].cumsum()[::-1]
    pool = draws.pool + rows - later_rows
    by_suspects = draws.found - later_hits
    share = (hits - (by_suspects / pool).sum()) / ((draws.left + rows) / pool).sum()
    return float(np.clip(draws.left * share, 0, draws.left))


def _spread(draws: _Draws) -> Floats:
    """Give as many equally likely numbers of wrong rows, by their posterior."""
    if not draws.left:
        return np.zeros(1)
    counts = np.unique(np.round(draws.left * np.linspace(0, 1, _POINTS // 2) ** 2))
    heights = _log_posterior(draws, counts)
    near = np.flatnonzero(heights > heights.max() - _NEGLIGIBLE)
    low, high = counts[max(near[0] - 1, 0)], counts[min(near[-1] + 1, len(counts) - 1)]
    counts = np.unique(np.round(np.linspace(low, high, _POINTS)))
    heights = _log_posterior(draws, counts)
    # Each count stands for those nearer to it than to the next.
    gaps = np.diff(counts, prepend=counts[0] - 1, append=counts[-1] + 1)
    sums = (np.exp(heights - heights.max()) * (gaps[1:] + gaps[:-1]) / 2).cumsum()
    places = np.searchsorted(sums / sums[-1], (np.arange(_POINTS) + 0.5) / _POINTS)
    return counts[places]


def _log_posterior(draws: _Draws, counts: Floats) -> Floats:
    """Give the log-probability of each number of wrong rows left, up to a constant."""
    hits, rows = int(draws.wrong.sum()), len(draws.wrong)
    ones = [math.lgamma(k + hits + 0.5) - math.lgamma(k + hits + 1) for k in counts.tolist()]
    others = (draws.left - counts + rows - hits).tolist()
    zeros = [math.lgamma(k + 0.5) - math.lgamma(k + 1) for k in others]
    wrong = draws.found[draws.wrong][:, None] + counts
    right = (draws.pool - draws.found)[~draws.wrong][:, None] - counts
    found: Floats = np.log(wrong).sum(0) + np.log(right).sum(0) + np.array(ones) + np.array(zeros)
    return found


def may_stop(left: Left, rows: int, share: float) -> bool:
    """Tell whether at most this share of all rows is still wrong, by the interval's upper end."""
    return left.high <= share * rows


def agreement(current: Mapping[int, Mapping[str, Verdict]]) -> dict[str, float | int | None]:
    """Compare reviewers with one another, and blind cards with others.

    Returns:
        ``rows`` judged by several people; ``share`` of their pairs of answers that are alike;
        ``kappa``, the same beyond chance; ``kept_blind`` and ``kept_shown``, shares of labels that
        were kept without and with a proposal in sight: if the first is much higher, people
        follow proposals. None where nothing can be said.
    """
    answers = [
        [(v.verdict, v.label) for v in by.values() if v.verdict != "unsure"]
        for by in current.values()
    ]
    several = [each for each in answers if len(each) > 1]
    pairs = [a == b for each in several for a, b in combinations(each, 2)]
    counts = Counter(answer for each in several for answer in each)
    chance = sum((n / max(counts.total(), 1)) ** 2 for n in counts.values())
    share = sum(pairs) / len(pairs) if pairs else None
    known = share is not None and chance < 1
    kappa = (share - chance) / (1 - chance) if known and share is not None else None
    kept: dict[bool, list[bool]] = {True: [], False: []}
    for by in current.values():
        for verdict in by.values():
            if not verdict.control and verdict.verdict != "unsure":
                kept[verdict.blind].append(verdict.verdict == "keep")
    blind, shown = (sum(kept[k]) / len(kept[k]) if kept[k] else None for k in (True, False))
    return {
        "rows": len(several),
        "share": share,
        "kappa": kappa,
        "kept_blind": blind,
        "kept_shown": shown,
    }
