"""What to do with suspects: propose a label, then relabel, drop, weigh or abstain.

Pure functions on arrays, for people who write their own loop. `errata.correct.corrections` joins
them with what people decided and with the gate that keeps `errata apply` from doing harm.

A belief [N, C] is a probability of every class to be the true one, for each row.

Shapes: N rows, C classes, K models or epochs. ``T[i, j]``: given label j, true class i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errata.correct.corrections import correct
from errata.correct.gate import MODEL_ROWS, Gain
from errata.errors import SettingsError

__all__ = [
    "Proposed",
    "abstain",
    "believe_by_mean",
    "believe_by_prototypes",
    "believe_through",
    "drop",
    "expected_accuracy",
    "expected_change",
    "join_beliefs",
    "propose",
    "relabel",
    "weigh",
]

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SURE = 1.959964
"""Standard errors to the ends of a two-sided interval of 95 %."""


class Proposed(NamedTuple):
    """The likeliest class of each row, and how it stands against the given one; each is [N]."""

    label: Ints
    """-1 where the given label is the likeliest."""
    p_label: Floats
    """Probability that the proposed label is right; NaN where there is none."""
    p_given: Floats
    """Probability that the given label is right; NaN where there is none."""


def believe_by_mean(probs: Floats, weights: Floats | None = None) -> Floats:
    """Average the predictions of several models or epochs.

    Args:
        probs: [K, N, C], rows summing to one.
        weights: [K], 0 or more, not all 0; None weighs all alike.

    Example:
        >>> believe_by_mean(np.array([[[1.0, 0.0]], [[0.5, 0.5]]])).tolist()
        [[0.75, 0.25]]
    """
    table = np.asarray(probs, dtype=np.float64)
    return np.asarray(np.average(table, axis=0, weights=weights))


def believe_by_prototypes(scores: Floats, *, temperature: float = 0.1) -> Floats:
    """Turn the likeness of each row to the prototypes of the classes into a belief.

    Args:
        scores: [N, C] cosine similarities, such as `errata.functional.class_scores` gives.
        temperature: Above 0; small ones believe in the nearest class alone.
    """
    assert temperature > 0, temperature
    powers = np.asarray(scores, dtype=np.float64) / temperature
    powers = np.exp(powers - powers.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def believe_through(probs: Floats, given: Ints, transition: Floats) -> Floats:
    """Ask the given label as well: by Bayes' rule, ``p(k | x, given) ~ p(k | x) T[k, given]``.

    Args:
        probs: [N, C] prediction of the true class, made without the given label.
        given: [N] class numbers; rows without a label (-1) keep their prediction.
        transition: T, [C, C].

    Returns:
        [N, C]; a row that nothing explains keeps its prediction.

    Example:
        >>> T = np.array([[0.8, 0.2], [0.2, 0.8]])
        >>> believe_through(np.array([[0.75, 0.25]]), np.array([1]), T).round(4).tolist()
        [[0.4286, 0.5714]]
    """
    table = np.asarray(probs, dtype=np.float64)
    likely = np.where((given >= 0)[:, None], np.asarray(transition).T[np.maximum(given, 0)], 1.0)
    joint = table * likely
    total = joint.sum(1, keepdims=True)
    return np.where(total > 0, joint / np.where(total > 0, total, 1.0), table)


def join_beliefs(*beliefs: Floats) -> Floats:
    """Average beliefs [N, C] of several kinds.

    They come from the same samples and often err together, so they are averaged: multiplied, they
    would be far too sure.
    """
    assert beliefs, "at least one belief"
    return np.asarray(np.mean(np.stack(beliefs), axis=0))


def propose(belief: Floats, given: Ints) -> Proposed:
    """Propose the likeliest class where it is not the given one.

    Args:
        belief: [N, C].
        given: [N] class numbers; -1 is unlabelled and always gets a proposal.

    Example:
        >>> propose(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).label.tolist()
        [-1, 1]
    """
    table = np.asarray(belief, dtype=np.float64)
    rows, best = np.arange(len(given)), table.argmax(1)
    other = best != given
    return Proposed(
        label=np.where(other, best, -1),
        p_label=np.where(other, table[rows, best], np.nan),
        p_given=np.where(given >= 0, table[rows, np.maximum(given, 0)], np.nan),
    )


def relabel(given: Ints, proposed: Ints, chosen: Bools) -> Ints:
    """Give chosen rows their proposed label, [N]; rows without one (-1) keep theirs.

    Example:
        >>> chosen = np.array([True, True, False])
        >>> relabel(np.array([0, 0, 0]), np.array([1, -1, 1]), chosen).tolist()
        [1, 0, 0]
    """
    return np.where(chosen & (proposed >= 0), proposed, given)


def drop(weights: Floats, chosen: Bools) -> Floats:
    """Give chosen rows no weight, [N].

    Raises:
        SettingsError: Nothing would be left to train on.
    """
    left = np.where(chosen, 0.0, weights)
    if not (left > 0).any():
        raise SettingsError(
            f"`{int(chosen.sum())}` dropped rows leave nothing to train on; allowed: fewer rows "
            "than have a weight",
            hint="drop only rows that are more probably wrong, with a higher level",
        )
    return left


def weigh(p_right: Floats, *, power: float = 1.0) -> Floats:
    """Weigh rows [N] by the probability that their label is right, with a mean of one.

    Args:
        p_right: [N], 0 to 1; NaN where it is unknown counts as the mean of the others.
        power: 0 weighs all alike; large ones trust the surest rows alone.

    Example:
        >>> weigh(np.array([1.0, 0.5, 0.0])).tolist()
        [2.0, 1.0, 0.0]
    """
    known = ~np.isnan(p_right)
    usual = float(p_right[known].mean()) if known.any() else 1.0
    raw = np.where(known, p_right, usual) ** power
    mean = float(raw.mean())
    return raw / mean if mean > 0 else np.ones(len(p_right))


def abstain(given: Ints, chosen: Bools) -> Ints:
    """Take the label of chosen rows away, [N]: they stay as samples without a label (-1)."""
    return np.where(chosen, -1, given)


def expected_accuracy(
    p_right: Floats, weights: Floats | None = None, *, groups: Ints | None = None
) -> Gain:
    """Expect the share of right labels, with a 95 % interval.

    The interval holds the luck of single rows, and the doubt about the probabilities as a whole:
    those of a group count like 20 rows that somebody checked, as in the gate of `errata apply`.

    Args:
        p_right: [N] probability that a label is right, 0 to 1, without NaN.
        weights: [N], 0 or more; rows of weight 0 are not counted. None weighs all alike.
        groups: [N] rows whose probabilities may be wrong together, such as relabelled ones; None
            makes one group of all.

    Returns:
        The expectation and its interval, which is cut off at 0 and 1; all 0 without any weight.

    Example:
        >>> expected_accuracy(np.array([1.0, 1.0, 0.0, 0.0])).estimate
        0.5
    """
    chances = np.asarray(p_right, dtype=np.float64)
    assert not np.isnan(chances).any(), "probabilities hold NaN"
    mass = np.ones(len(chances)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = float(mass.sum())
    if total <= 0:
        return Gain(0.0, 0.0, 0.0)
    shares = mass / total
    mean = float((shares * chances).sum())
    variance = float((np.square(shares) * chances * (1 - chances)).sum())
    for group in (None,) if groups is None else np.unique(groups):
        members = np.ones(len(chances), dtype=bool) if group is None else groups == group
        part = float(shares[members].sum())
        inside = float((shares * chances)[members].sum()) / part if part > 0 else 0.0
        variance += part**2 * inside * (1 - inside) / (MODEL_ROWS + 1)
    reach = _SURE * float(np.sqrt(variance))
    return Gain(mean, max(mean - reach, 0.0), min(mean + reach, 1.0))


def expected_change(
    given: Ints,
    proposed: Ints,
    p_wrong: Floats,
    p_proposed: Floats,
    *,
    rate: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Say what `errata apply` would do to the share of right labels, if nobody reviewed anything.

    Args:
        given: [N] class numbers; -1 is unlabelled.
        proposed: [N] class numbers; -1 is none.
        p_wrong: [N]; NaN where it is unknown.
        p_proposed: [N]; NaN without a proposal.
        rate: ``estimate``, ``low`` and ``high`` of the share of wrong labels.
        classes: [C] names.

    Returns:
        ``before``, ``after`` and ``gain``, each with ``estimate``, ``low`` and ``high``, the share
        of right labels among labelled rows; ``relabelled`` rows that pass the gate; and
        ``held_back``, a sentence for each thing that does not. The ends of ``after`` are those of
        the other two added up, which is wider than need be.
    """
    rows = np.flatnonzero(given >= 0)
    found = correct(
        given[rows], proposed[rows], p_wrong[rows], p_proposed[rows], judged={}, classes=classes
    )
    before = Gain(1 - rate["estimate"], 1 - rate["high"], 1 - rate["low"])
    after = Gain(*(min(max(a + b, 0.0), 1.0) for a, b in zip(before, found.gain, strict=True)))
    return {
        "before": before._asdict(),
        "after": after._asdict(),
        "gain": found.gain._asdict(),
        "relabelled": int((found.source == "model").sum()),
        "held_back": list(found.refused),
    }
