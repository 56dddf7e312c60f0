"""Corrected labels: people first, then the model where it is sure enough, then as given.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from errata.errors import SettingsError, unknown_name

__all__ = ["POLICIES", "SOURCES", "Corrections", "Gain", "Judged", "correct", "sure_enough"]

POLICIES = ("human-first",)
SOURCES = ("human", "model", "given")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS = 4000
_MODEL_ROWS = 20.0
"""How many checked rows the model's own probabilities are worth; our choice."""


class Judged(Protocol):
    """What people decided about a row, such as `errata.review.verdicts.Ruling`."""

    @property
    def verdict(self) -> str:
        """``keep``, ``relabel``, ``drop`` or ``unsure``."""
        ...

    @property
    def label(self) -> str | None:
        """Name of the class, for ``relabel``."""
        ...


class Gain(NamedTuple):
    """A value with its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Corrections:
    """Labels after correction, in the order of the rows.

    Label accuracy is the share of right labels among the rows that stay; a row without a label
    counts as not right.

    Attributes:
        label: [N] class numbers; -1 is unlabelled. A dropped row keeps the label it had.
        weight: [N] 1, or 0 for a dropped row.
        source: [N] who decided the row: ``human``, ``model`` or ``given``.
        gain: Expected change in label accuracy, -1 to 1, of all that was applied.
        people: The part of it that people's verdicts make, which are taken to be right.
        model: The change that the model's corrections and drops make, or would make where the gate
            held them back; None where there were none to weigh.
        precision: Share of the model's proposals above the level that are right; None without any.
        proposals: How many rows they are.
        checked: On how many other such proposals people have decided.
        refused: Why something automatic was held back, a sentence each; empty where nothing was.
    """

    label: Ints
    weight: Floats
    source: NDArray[np.str_]
    gain: Gain
    people: float
    model: Gain | None
    precision: Gain | None
    proposals: int
    checked: int
    refused: tuple[str, ...]


def correct(
    given: Ints,
    proposed: Ints,
    p_wrong: Floats,
    p_proposed: Floats,
    *,
    judged: Mapping[int, Judged],
    classes: Sequence[str],
    auto_above: float = 0.95,
    drop_above: float | None = None,
) -> Corrections:
    """Correct labels, people first, and do no harm.

    What people decided counts. Rows that they left undecided stay as given. Of all others the
    model corrects those whose `p_proposed` is above `auto_above`, and drops those whose `p_wrong`
    is above `drop_above`.

    The gate: what people found of proposals above the level is pooled with the model's own
    probabilities, which count like 20 checked rows. Proposals are applied down to the last
    `p_proposed` at which the share that is right still reaches `auto_above`, and only if, with
    97.5 % probability, they make more labels right than wrong. Rows are dropped only if, with the
    same probability, fewer of them are right than of all others. The 20 rows are our choice.

    The intervals hold the doubt about the probabilities as a whole and the luck of single rows.
    They take checked rows to be like others; people who see the worst first check easier ones.

    Args:
        given: [N] class numbers as delivered; -1 is unlabelled.
        proposed: [N] class that fits better; -1 is none.
        p_wrong: [N] probability that the given label is wrong; NaN where unknown.
        p_proposed: [N] probability that the proposed label is right; NaN where there is none.
        judged: What people decided, by row.
        classes: [C] names.
        auto_above: Level for the model's corrections, 0 to 1; 1 turns them off.
        drop_above: Level for the model's drops, 0 to 1; None drops none.

    Raises:
        SettingsError: A level is out of range, or a verdict does not fit the rows or classes.

    Example:
        >>> found = correct(
        ...     np.array([0, 1]),
        ...     np.array([1, -1]),
        ...     np.array([0.99, 0.1]),
        ...     np.array([0.98, np.nan]),
        ...     judged={},
        ...     classes=("cat", "dog"),
        ... )
        >>> found.label.tolist(), found.source.tolist()
        ([1, 1], ['model', 'given'])
    """
    _check_level("auto-above", auto_above)
    if drop_above is not None:
        _check_level("drop-above", drop_above)
    label, weight, decided, asked = _by_people(given, judged, classes)
    stays = weight > 0
    before = _chance_right(given, p_wrong)
    before[decided] = (stays & (label == given))[decided]
    right = np.where(decided, label >= 0, before)
    people = _mean(right[stays]) - _mean(before)
    source = np.where(decided, "human", "given")

    sure = (proposed >= 0) & (proposed != given) & (np.nan_to_num(p_proposed) > auto_above)
    hit = decided & stays & (label == proposed)
    cut = sure_enough(p_proposed, sure & ~asked, sure & decided, hit, level=auto_above)
    if cut < np.inf:
        sure &= p_proposed >= cut
    fixes, tested = sure & ~asked, sure & decided
    applied, weighed, refused = [], [], []
    precision = None
    if fixes.any():
        change, precision, helps = _weigh_fixes(
            p_proposed[fixes], before[fixes], hit[tested], before[tested] > 0, int(stays.sum())
        )
        weighed.append(change)
        if cut == np.inf or not helps:
            refused.append(_no_fixes(int(fixes.sum()), precision, auto_above))
        else:
            applied.append(change)
            label = np.where(fixes, proposed, label)
            source = np.where(fixes, "model", source)
            right = np.where(fixes, p_proposed, right)

    if drop_above is not None:
        unsafe = (given >= 0) & (np.nan_to_num(p_wrong) > drop_above)
        drops = unsafe & ~asked & (source == "given")
        if drops.any():
            change, helps = _weigh_drops(before[unsafe & decided] > 0, right[stays], right[drops])
            weighed.append(change)
            if helps:
                applied.append(change)
                weight = np.where(drops, 0.0, weight)
                source = np.where(drops, "model", source)
            else:
                refused.append(
                    f"{drops.sum():,} rows above `{drop_above}` are not dropped: they are not "
                    "sure enough to be wrong more often than others"
                )
    total = _interval(applied)
    return Corrections(
        label=label,
        weight=weight,
        source=source,
        gain=Gain(*(people + each for each in total)),
        people=people,
        model=_interval(weighed) if weighed else None,
        precision=precision,
        proposals=int(fixes.sum()),
        checked=int(tested.sum()),
        refused=tuple(refused),
    )


def sure_enough(
    p_proposed: Floats, untested: Bools, tested: Bools, hit: Bools, *, level: float
) -> float:
    """Find how far down proposals stay right often enough.

    Going down from the surest proposal, the share that is right is estimated from the mean
    probability of the untested ones, which counts like 20 rows, and from what people found.

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
    hits = np.cumsum((tested & hit)[rows])
    share = (_MODEL_ROWS * mean + hits) / (_MODEL_ROWS + checked)
    # Equal probabilities stand or fall together.
    last = np.append(odds[1:] < odds[:-1], True)[: len(rows)]
    good = np.flatnonzero((share >= level) & (count > 0) & last)
    return float(odds[good[-1]]) if len(good) else float("inf")


class _Change(NamedTuple):
    """A change in label accuracy: its expectation, and draws of what it may turn out to be."""

    expected: float
    draws: Floats


def _weigh_fixes(
    p_proposed: Floats, p_right: Floats, hit: Bools, was_right: Bools, rows: int
) -> tuple[_Change, Gain, bool]:
    """Weigh proposals: the change, the share that is right, and whether they surely help.

    Args:
        p_proposed: [n] of the proposals that would be applied.
        p_right: [n] probability that the given label is right.
        hit: [m] of the checked ones: the proposal was right.
        was_right: [m] the given label was right.
        rows: How many rows stay.
    """
    rng = np.random.default_rng(0)
    won, lost = float(p_proposed.mean()), float(np.minimum(p_right, 1 - p_proposed).mean())
    prior = _MODEL_ROWS * np.array([won, lost, max(1 - won - lost, 0.0)])
    seen = np.array([hit.sum(), (was_right & ~hit).sum(), (~was_right & ~hit).sum()])
    pooled = prior + seen
    shares = rng.dirichlet(np.maximum(pooled, 1e-3), _DRAWS)
    counts = rng.multinomial(len(p_proposed), shares)
    mean = pooled / pooled.sum()
    expected = float(mean[0] - mean[1]) * len(p_proposed) / rows
    low, high = np.quantile(shares[:, 0], [0.025, 0.975])
    precision = Gain(float(mean[0]), min(float(low), float(mean[0])), max(float(high), mean[0]))
    helps = bool(np.quantile(shares[:, 0] - shares[:, 1], 0.025) > 0)
    return _Change(expected, (counts[:, 0] - counts[:, 1]) / rows), precision, helps


def _weigh_drops(was_right: Bools, right: Floats, dropped: Floats) -> tuple[_Change, bool]:
    """Weigh drops: the change, and whether it is surely for the better.

    Args:
        was_right: [m] of the checked rows above the level: the given label was right.
        right: [n] probability that the label is right, of all rows that stay.
        dropped: [d] the same of those that would be dropped.
    """
    rng = np.random.default_rng(0)
    share = float(dropped.mean())
    good = _MODEL_ROWS * share + was_right.sum()
    bad = _MODEL_ROWS * (1 - share) + (~was_right).sum()
    shares = rng.beta(max(good, 1e-3), max(bad, 1e-3), _DRAWS)
    others, rest = len(right) - len(dropped), float(right.sum() - dropped.sum())
    if others == 0:
        # Nothing would be left to train on.
        return _Change(0.0, np.zeros(_DRAWS)), False

    def change(lost: Floats | float) -> Floats | float:
        return rest / others - (rest + lost) / len(right)

    expected = float(change(len(dropped) * good / (good + bad)))
    draws = np.asarray(change(rng.binomial(len(dropped), shares).astype(np.float64)))
    return _Change(expected, draws), bool(np.quantile(shares, 0.975) < rest / others)


def _interval(changes: Sequence[_Change]) -> Gain:
    if not changes:
        return Gain(0.0, 0.0, 0.0)
    expected = float(sum(change.expected for change in changes))
    low, high = np.quantile(sum(change.draws for change in changes), [0.025, 0.975])
    return Gain(expected, min(float(low), expected), max(float(high), expected))


def _by_people(
    given: Ints, judged: Mapping[int, Judged], classes: Sequence[str]
) -> tuple[Ints, Floats, Bools, Bools]:
    """Apply verdicts: labels [N], weights [N], rows that are decided, rows that were looked at."""
    label, weight = given.copy(), np.ones(len(given))
    decided, asked = np.zeros(len(given), dtype=bool), np.zeros(len(given), dtype=bool)
    number = {name: place for place, name in enumerate(classes)}
    for row, ruling in judged.items():
        if not 0 <= row < len(given):
            raise SettingsError(
                f"a verdict is on row `{row}`; allowed: 0 to {len(given) - 1}",
                hint="the verdicts belong to other data; open the audit they were made for",
            )
        asked[row] = True
        decided[row] = ruling.verdict in ("keep", "relabel", "drop")
        if ruling.verdict == "drop":
            weight[row] = 0.0
        elif ruling.verdict == "relabel":
            if ruling.label not in number:
                raise unknown_name("class", str(ruling.label), classes)
            label[row] = number[ruling.label]
    return label, weight, decided, asked


def _chance_right(given: Ints, p_wrong: Floats) -> Floats:
    """Give the probability [N] that each given label is right; the mean where it is unknown."""
    labelled = given >= 0
    known = labelled & ~np.isnan(p_wrong)
    usual = float(p_wrong[known].mean()) if known.any() else 0.0
    return np.where(labelled, 1 - np.where(known, p_wrong, usual), 0.0)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _no_fixes(rows: int, precision: Gain, level: float) -> str:
    if precision.estimate < level:
        return (
            f"{rows:,} proposals above `{level}` are not applied: the share of them that is right "
            f"is estimated at {precision.estimate:.3f}"
        )
    return (
        f"{rows:,} proposals above `{level}` are not applied: they are not sure enough to make "
        "more labels right than wrong"
    )


def _check_level(name: str, level: float) -> None:
    if not 0 <= level <= 1:
        raise SettingsError(
            f"--{name} `{level}` is not allowed; allowed: a probability from 0 to 1",
            hint="0.95 is a common choice",
        )
