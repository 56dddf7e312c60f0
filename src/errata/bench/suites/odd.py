"""Sweeps of ODD: when it drops, how much, and whether down-weighting would do."""

from __future__ import annotations

from dataclasses import replace

from errata.bench.suites.base import Variant
from errata.bench.suites.fashion import ASYMMETRIC, PER_CLASS, SHORT, UNIFORM

__all__ = ["SUITES"]

_WHEN = {
    f"odd@at{percent}": Variant(recipe="odd", changes=(f'stage.parts.odd.at="{percent}%"',))
    for percent in (10, 20, 30, 50, 60, 70, 80, 90)
}
_HOW_MUCH = {
    f"odd@p{percentile:g}": Variant(
        recipe="odd", changes=(f"stage.parts.odd.percentile={percentile}",)
    )
    for percentile in (2.5, 5.0, 10.0, 30.0, 40.0, 50.0, 70.0)
}
_WEIGHTS = {
    f"odd@w{times}": Variant(recipe="odd", changes=(f"stage.parts.odd.weight={1 / times}",))
    for times in (2, 10, 100)
}
_ALONE = replace(SHORT, noises=(UNIFORM,), more=(), borrows=SHORT.name)

SUITES = (
    replace(
        _ALONE,
        name="odd-claims",
        summary="what odd drops without noise and with four kinds of it",
        recipes=("odd",),
        noises=("none", "uniform:0.2", UNIFORM, ASYMMETRIC, PER_CLASS),
    ),
    replace(
        _ALONE,
        name="odd-when",
        summary="odd (40 %) dropping too early, in the band and too late",
        recipes=("erm", "odd", *_WHEN),
        variants=_WHEN,
    ),
    replace(
        _ALONE,
        name="odd-how-much",
        summary="odd (percentile 20) dropping from much to little",
        recipes=("erm", "odd", *_HOW_MUCH),
        variants=_HOW_MUCH,
    ),
    replace(
        _ALONE,
        name="odd-weights",
        summary="the rows that odd drops, weighted down by 2, 10 and 100 instead",
        recipes=("erm", "odd", *_WEIGHTS),
        variants=_WEIGHTS,
    ),
)
