"""What a review has shown: errors that are left, agreement, when to stop, better probabilities.

Controls are rows drawn at random from all that nobody has reviewed, apart for flagged and unflagged
rows. They say how many errors are left in the rest; the suspects say nothing of it, as they were
chosen for being suspicious.

Shapes: N rows, n reviewed rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from errata.detect.phantom import isotonic

if TYPE_CHECKING:
    from errata.review.journal import Verdict

__all__ = ["Left", "agreement", "errors_left", "may_stop", "recalibrate"]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS = 4000
_BINS = 50
_PRIOR_ROWS = 5.0


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


def errors_left(
    flagged: Bools,
    reviewed: Ints,
    wrong: Bools,
    control: Bools,
    *,
    suspicion: Floats | None = None,
) -> Left:
    """Estimate the wrong labels among rows that nobody has reviewed.

    In each stratum the share of wrong labels has the Jeffreys posterior of its controls, and the
    number among the rows left, which alone are unknown, follows from it: so reviewing all leaves
    nothing to estimate. A control that is more suspicious than every row left speaks of rows that
    are left no longer, and is not counted. Others that suspects have thinned out around still
    count, so that the estimate errs upwards a little.

    Args:
        flagged: [N].
        reviewed: Rows with a decision, [n].
        wrong: Whether each had a wrong label, [n].
        control: Whether each was drawn at random, [n].
        suspicion: [N], by which suspects came up; None counts every control, which errs upwards
            more.
    """
    rng = np.random.default_rng(0)
    total, mean, used = np.zeros(_DRAWS), 0.0, 0
    for stratum in (True, False):
        members = flagged == stratum
        inside = members[reviewed]
        left = int(members.sum() - inside.sum())
        sample = inside & control
        if suspicion is not None:
            rest = members.copy()
            rest[reviewed] = False
            highest = np.nanmax(suspicion[rest], initial=-np.inf)
            sample &= suspicion[reviewed] <= highest
        hits, rows = int(wrong[sample].sum()), int(sample.sum())
        used += rows
        shares = rng.beta(hits + 0.5, rows - hits + 0.5, _DRAWS)
        total += rng.binomial(left, shares)
        mean += left * (hits / rows if rows else 0.5)
    low, high = np.quantile(total, [0.025, 0.975])
    return Left(float(mean), float(min(low, mean)), float(max(high, mean)), used)


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


def recalibrate(p_wrong: Floats, rows: Ints, wrong: Bools) -> Floats:
    """Bring probabilities of being wrong in line with verdicts, without changing their order.

    Bins of equally many rows count as five verdicts at their mean probability, and the verdicts on
    their rows are added; means that fall are then pooled. Few verdicts therefore change little.

    Args:
        p_wrong: [N]; NaN stays NaN.
        rows: Reviewed rows, [n].
        wrong: What was found of them, [n].
    """
    known = ~np.isnan(p_wrong)
    if not known.any() or not len(rows):
        return p_wrong.copy()
    edges = np.unique(np.quantile(p_wrong[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
    place = np.searchsorted(edges, p_wrong, side="right")
    size = len(edges) + 1
    members = np.maximum(np.bincount(place[known], minlength=size), 1)
    prior = np.bincount(place[known], p_wrong[known], minlength=size) / members
    judged = rows[known[rows]]
    seen = np.bincount(place[judged], minlength=size)
    hits = np.bincount(place[judged], wrong[known[rows]].astype(np.float64), minlength=size)
    weights = seen + _PRIOR_ROWS
    means = isotonic((hits + _PRIOR_ROWS * prior) / weights, weights)
    found = np.full(len(p_wrong), np.nan)
    # The shift of a bin moves its rows, so that rows of one bin stay in their order.
    moved = p_wrong + (means - prior)[place]
    found[known] = np.clip(moved[known], 0.0, 1.0)
    order = np.argsort(p_wrong[known], kind="stable")
    risen = np.maximum.accumulate(found[known][order])
    values = np.empty_like(risen)
    values[order] = risen
    found[known] = values
    return found
