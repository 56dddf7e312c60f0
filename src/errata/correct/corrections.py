"""Corrected labels: people first, then the model where it is sure enough, then as given.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from errata.correct.gate import (
    Gain,
    Weighed,
    chance_right,
    interval,
    sure_enough,
    weigh_drops,
    weigh_fixes,
)
from errata.errors import SettingsError, unknown_name

__all__ = ["POLICIES", "SOURCES", "Corrections", "Judged", "correct"]

POLICIES = ("human-first",)
SOURCES = ("human", "model", "given")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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

    The gate: the model's own probabilities are moved by how far what people found of proposals
    above the level differs from them; they count like 20 checked rows, which is our choice.
    Proposals are applied down to the last `p_proposed` at which the share that is right still
    reaches `auto_above`, and only if, with 97.5 % probability, they make more labels right than
    wrong. Rows are dropped only if the share of them that is wrong, estimated likewise, reaches
    `drop_above`, and if, with the same probability, fewer of them are right than of all others.

    The intervals hold the doubt about the probabilities as a whole and the luck of single rows.

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
        >>> labels = np.array([0, 1]), np.array([1, -1])
        >>> odds = np.array([0.99, 0.1]), np.array([0.98, np.nan])
        >>> found = correct(*labels, *odds, judged={}, classes=("cat", "dog"))
        >>> found.label.tolist(), found.source.tolist()
        ([1, 1], ['model', 'given'])
    """
    _check_level("auto-above", auto_above)
    if drop_above is not None:
        _check_level("drop-above", drop_above)
    rows = _by_people(given, p_wrong, judged, classes)
    label, weight, right = rows.label, rows.weight, rows.right.copy()
    source = np.where(rows.decided, "human", "given")
    steps = [fixes := _weigh_proposals(rows, proposed, p_proposed, auto_above)]
    if not fixes.refused:
        label = np.where(fixes.rows, proposed, label)
        source = np.where(fixes.rows, "model", source)
        right = np.where(fixes.rows, p_proposed, right)
    if drop_above is not None:
        steps.append(drops := _weigh_unsafe(rows, p_wrong, right, source == "given", drop_above))
        if not drops.refused:
            weight = np.where(drops.rows, 0.0, weight)
            source = np.where(drops.rows, "model", source)
    weighed = [each.weighed.change for each in steps if each.weighed]
    applied = [each.weighed.change for each in steps if each.weighed and not each.refused]
    stays = rows.weight > 0
    people = float(rows.right[stays].mean() if stays.any() else 0.0) - float(rows.before.mean())
    return Corrections(
        label=label,
        weight=weight,
        source=source,
        gain=Gain(*(people + each for each in interval(applied))),
        people=people,
        model=interval(weighed) if weighed else None,
        precision=None if fixes.weighed is None else fixes.weighed.share,
        proposals=int(fixes.rows.sum()),
        checked=fixes.checked,
        refused=tuple(why for each in steps for why in each.refused),
    )


class _Rows(NamedTuple):
    """Rows after what people decided; each field is [N]."""

    given: Ints
    label: Ints
    weight: Floats
    decided: Bools
    """People kept, changed or dropped it."""
    asked: Bools
    """People looked at it, and may have been unsure."""
    chance: Floats
    """Probability that the given label is right, before anybody looked."""
    before: Floats
    """Probability that the given label is right, as far as it is known now."""
    right: Floats
    """The same of the label after people's decisions."""


class _Automatic(NamedTuple):
    """Rows that the model would change, what that would do, and why it may not."""

    rows: Bools
    weighed: Weighed | None
    refused: tuple[str, ...] = ()
    checked: int = 0


def _by_people(
    given: Ints, p_wrong: Floats, judged: Mapping[int, Judged], classes: Sequence[str]
) -> _Rows:
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
    kept = (weight > 0) & (label == given) & (given >= 0)
    chance = chance_right(given, p_wrong)
    before = np.where(decided, kept, chance)
    right = np.where(decided, label >= 0, before)
    return _Rows(given, label, weight, decided, asked, chance, before, right)


def _weigh_proposals(rows: _Rows, proposed: Ints, p_proposed: Floats, level: float) -> _Automatic:
    """Choose the proposals that are sure enough, and weigh them."""
    sure = (proposed >= 0) & (proposed != rows.given) & (np.nan_to_num(p_proposed) > level)
    stays = rows.weight > 0
    hit = rows.decided & stays & (rows.label == proposed)
    cut = sure_enough(p_proposed, sure & ~rows.asked, sure & rows.decided, hit, level=level)
    if cut < np.inf:
        sure &= p_proposed >= cut
    fixes, tested = sure & ~rows.asked, sure & rows.decided
    checked = int(tested.sum())
    if not fixes.any():
        return _Automatic(fixes, None, checked=checked)
    both = fixes | tested
    weighed = weigh_fixes(
        p_proposed[both],
        rows.chance[both],
        checked=tested[both],
        hit=hit[both],
        was_right=rows.before[both] == 1,
        rows=int(stays.sum()),
    )
    return _Automatic(
        fixes, weighed, _no_fixes(int(fixes.sum()), weighed, level, open_=cut < np.inf), checked
    )


def _weigh_unsafe(
    rows: _Rows, p_wrong: Floats, right: Floats, untouched: Bools, level: float
) -> _Automatic:
    """Choose the rows to drop, and weigh that."""
    unsafe = (rows.given >= 0) & (np.nan_to_num(p_wrong) > level)
    drops = unsafe & ~rows.asked & untouched
    if not drops.any():
        return _Automatic(drops, None)
    checked = unsafe & rows.decided
    both = drops | checked
    weighed = weigh_drops(
        rows.chance[both],
        right[rows.weight > 0],
        checked=checked[both],
        was_right=rows.before[both] == 1,
    )
    amount = f"{_several(int(drops.sum()), 'row', level)} not dropped"
    if weighed.share.estimate < level:
        share = f"{weighed.share.estimate:.3f}"
        why = f"{amount}: the share of them that is wrong is estimated at {share}"
    elif not weighed.helps:
        why = f"{amount}: they are not sure enough to be wrong more often than others"
    else:
        return _Automatic(drops, weighed)
    return _Automatic(drops, weighed, (why,))


def _no_fixes(count: int, weighed: Weighed, level: float, *, open_: bool) -> tuple[str, ...]:
    if open_ and weighed.helps:
        return ()
    amount = f"{_several(count, 'proposal', level)} not applied"
    if not open_:
        share = f"{weighed.share.estimate:.3f}"
        return (f"{amount}: the share of them that is right is estimated at {share}",)
    return (f"{amount}: they are not sure enough to make more labels right than wrong",)


def _several(count: int, word: str, level: float) -> str:
    if count == 1:
        return f"1 {word} above `{level}` is"
    return f"{count:,} {word}s above `{level}` are"


def _check_level(name: str, level: float) -> None:
    if not 0 <= level <= 1:
        raise SettingsError(
            f"--{name} `{level}` is not allowed; allowed: a probability from 0 to 1",
            hint="0.95 is a common choice",
        )
