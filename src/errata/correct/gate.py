"""The do-no-harm gate: which of the model's corrections and drops are sure enough to apply.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Change",
    "Gain",
    "Weighed",
    "chance_right",
    "interval",
    "sure_enough",
    "weigh_drops",
    "weigh_fixes",
]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MODEL_ROWS = 20.0
"""How many checked rows the model's own probabilities are worth; our choice."""
_DRAWS = 4000


class Gain(NamedTuple):
    """A value with its 95 % interval."""

    estimate: float
    low: float
    high: float


class Change(NamedTuple):
    """A change in label accuracy: its expectation, and draws of what it may turn out to be."""

    expected: float
    draws: Floats


class Weighed(NamedTuple):
    """What a set of automatic changes would do."""

    change: Change
    share: Gain
    """Share of them that does good: proposals that are right, dropped labels that are wrong."""
    helps: bool
    """They make labels better with 97.5 % probability."""


def chance_right(given: Ints, p_wrong: Floats) -> Floats:
    """Give the probability [N] that each given label is right; the mean where it is unknown."""
    labelled = given >= 0
    known = labelled & ~np.isnan(p_wrong)
    usual = float(p_wrong[known].mean()) if known.any() else 0.0
    return np.where(labelled, 1 - np.where(known, p_wrong, usual), 0.0)


def sure_enough(
    p_proposed: Floats, untested: Bools, tested: Bools, hit: Bools, *, level: float
) -> float:
    """Find how far down proposals stay right often enough.

    Going down from the surest proposal, the share that is right is the mean probability of the
    untested ones, moved by how far the tested ones were better or worse than their probabilities:
    20 rows count as found to be as probable as they were said to be, which is our choice.

    Args:
        p_proposed: [N] probability that the proposal is right.
        untested: [N] proposals that might be applied.
        tested: [N] proposals that people decided.
        hit: [N] whether people chose the proposed label; read for tested rows.
        level: The share that has to be right, 0 to 1.

    Returns:
        The lowest probability to apply; infinity where there is none.

    Example:
        >>> p = np.array([0.99, 0.98, 0.97])
        >>> no = np.zeros(3, dtype=bool)
        >>> sure_enough(p, ~no, no, no, level=0.98)
        0.97
    """
    rows = np.flatnonzero(untested | tested)
    rows = rows[np.argsort(-p_proposed[rows], kind="stable")]
    odds = p_proposed[rows]
    count = np.cumsum(untested[rows])
    mean = np.cumsum(np.where(untested[rows], odds, 0.0)) / np.maximum(count, 1)
    checked = np.cumsum(tested[rows])
    surprise = np.cumsum(np.where(tested[rows], hit[rows] - odds, 0.0))
    share = mean + surprise / (MODEL_ROWS + checked)
    # Equal probabilities stand or fall together.
    last = np.append(odds[1:] < odds[:-1], True)[: len(rows)]
    good = np.flatnonzero((share >= level) & (count > 0) & last)
    return float(odds[good[-1]]) if len(good) else float("inf")


def weigh_fixes(
    p_proposed: Floats,
    p_right: Floats,
    *,
    checked: Bools,
    hit: Bools,
    was_right: Bools,
    rows: int,
) -> Weighed:
    """Weigh proposals: what applying them would change, and whether they surely help.

    Args:
        p_proposed: [n] probability that the proposal is right, of checked and other proposals.
        p_right: [n] probability, before anybody looked, that the given label is right.
        checked: [n] people decided the row; the others would be applied.
        hit: [n] the proposal was right; read for checked ones.
        was_right: [n] the given label was right; read for checked ones.
        rows: How many rows stay.
    """
    rng = np.random.default_rng(0)
    lost = np.minimum(p_right, 1 - p_proposed)
    odds = np.stack([p_proposed, lost, np.maximum(1 - p_proposed - lost, 0.0)])
    seen = np.stack([hit, was_right & ~hit, ~was_right & ~hit])
    pooled = _pool(odds, seen, checked)
    shares = rng.dirichlet(np.maximum(pooled, 1e-3), _DRAWS)
    count = int((~checked).sum())
    counts = rng.multinomial(count, shares)
    mean = pooled / pooled.sum()
    expected = float(mean[0] - mean[1]) * count / rows
    helps = bool(np.quantile(shares[:, 0] - shares[:, 1], 0.025) > 0)
    change = Change(expected, (counts[:, 0] - counts[:, 1]) / rows)
    return Weighed(change, _gain(float(mean[0]), shares[:, 0]), helps)


def weigh_drops(p_right: Floats, right: Floats, *, checked: Bools, was_right: Bools) -> Weighed:
    """Weigh drops: what they would change, and whether they are surely for the better.

    Args:
        p_right: [n] probability, before anybody looked, that the given label is right, of the rows
            above the level.
        right: [r] probability that the label is right now, of all rows that stay.
        checked: [n] people decided the row; the others would be dropped.
        was_right: [n] the given label was right; read for checked ones.
    """
    rng = np.random.default_rng(0)
    dropped = p_right[~checked]
    good, bad = _pool(np.stack([p_right, 1 - p_right]), np.stack([was_right, ~was_right]), checked)
    shares = rng.beta(max(good, 1e-3), max(bad, 1e-3), _DRAWS)
    wrong = _gain(float(bad / (good + bad)), 1 - shares)
    others, rest = len(right) - len(dropped), float(right.sum() - dropped.sum())
    if others == 0:
        # Nothing would be left to train on.
        return Weighed(Change(0.0, np.zeros(_DRAWS)), wrong, helps=False)
    lost = np.append(
        rng.binomial(len(dropped), shares).astype(np.float64), len(dropped) * good / (good + bad)
    )
    changes = rest / others - (rest + lost) / len(right)
    helps = bool(np.quantile(shares, 0.975) < rest / others)
    return Weighed(Change(float(changes[-1]), changes[:-1]), wrong, helps)


def _pool(odds: Floats, seen: Bools, checked: Bools) -> Floats:
    """Count how often each outcome [k] is to be expected, in as many rows as the belief is worth.

    The mean of the unchecked rows moves by how far the checked ones differ from what was said of
    them, so that it does no harm that people see the surest first.

    Args:
        odds: [k, n] probability of each outcome.
        seen: [k, n] which one people found; read for checked rows.
        checked: [n].
    """
    worth = MODEL_ROWS + checked.sum()
    surprise = (seen[:, checked] - odds[:, checked]).sum(1)
    mean = np.clip(odds[:, ~checked].mean(1) + surprise / worth, 0.0, None)
    return np.asarray(worth * mean / mean.sum())


def interval(changes: Sequence[Change]) -> Gain:
    """Add up changes; nothing changes by nothing."""
    if not changes:
        return Gain(0.0, 0.0, 0.0)
    expected = float(sum(change.expected for change in changes))
    return _gain(expected, np.sum([change.draws for change in changes], axis=0))


def _gain(expected: float, draws: Floats) -> Gain:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Gain(expected, min(float(low), expected), max(float(high), expected))
