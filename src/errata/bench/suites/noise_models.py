"""Noise models side by side: where the transition matrix comes from, and which layer learns it."""

from __future__ import annotations

from dataclasses import replace

from errata.bench.suites.base import Grid, Suite, Variant
from errata.bench.suites.fashion import ASYMMETRIC, INSTANCE, SHORT, UNIFORM

__all__ = ["SUITES"]

_TRUE = ('stage.parts.transition-matrix.file="{transition}"',)
_GIVEN = {
    "forward@true": Variant(recipe="forward", changes=_TRUE),
    "backward@true": Variant(recipe="backward", changes=_TRUE),
    "row@true": Variant(recipe="row", changes=_TRUE),
    "soft@true": Variant(recipe="soft", changes=_TRUE),
}
_ESTIMATORS = {
    f"forward@{name}": Variant(
        recipe="forward", changes=(f'stage.parts.transition-matrix.estimator="{name}"',)
    )
    for name in ("surest", "neighbours")
}
_ESTIMATED = ("forward", "backward", "dual-t", "vol-min", "forward-learned", "t-revision")
_LAYERS = (
    *("forward-learned", "sukhbaatar", "jindal", "goldberger-s", "goldberger-c", "bltm"),
    *("nnaqc", "nnaqc-instance"),
)
_OPTIONS = {
    "sukhbaatar@free": Variant(recipe="sukhbaatar", changes=("stage.parts.sukhbaatar.trace=0",)),
    "sukhbaatar@decay": Variant(
        recipe="sukhbaatar",
        changes=("stage.parts.sukhbaatar.trace=0", "stage.parts.sukhbaatar.decay=0.1"),
    ),
    "goldberger-s@soft": Variant(
        recipe="goldberger-s", changes=('stage.parts.goldberger-s.counts="soft"',)
    ),
    "nnaqc@fixed": Variant(recipe="nnaqc", changes=("stage.parts.nnaqc.lr_scale=0",)),
    # The plain identity, whose second softmax reaches no more than e / (e + 9).
    "nnaqc@identity": Variant(recipe="nnaqc", changes=("stage.loss.ceiling=0.232",)),
    "nnaqc@layer": Variant(recipe="nnaqc", changes=("stage.loss.alpha=1.0",)),
    "nnaqc-instance@layer": Variant(recipe="nnaqc-instance", changes=("stage.loss.alpha=1.0",)),
}
_FIXED_OR_NOT = (
    *("erm", "goldberger-s", "goldberger-c", "nnaqc", "nnaqc-instance"),
    *("nnaqc@fixed", "nnaqc@layer", "nnaqc-instance@layer", "bltm"),
)
"""One W for all samples beside both readings of W(x)."""

SUITES = (
    replace(
        SHORT,
        name="transitions",
        summary="the transition matrix given, estimated, learned or left out",
        recipes=("erm", *_ESTIMATED, *_GIVEN, *_ESTIMATORS),
        noises=("matrix:neighbours", UNIFORM, ASYMMETRIC),
        more=(),
        variants={**_GIVEN, **_ESTIMATORS},
        borrows=SHORT.name,
    ),
    replace(
        SHORT,
        name="layers",
        summary="noise layers that are learned with the network",
        recipes=("erm", *_LAYERS, *_OPTIONS),
        noises=(UNIFORM, ASYMMETRIC),
        more=(Grid(recipes=_FIXED_OR_NOT, noises=(INSTANCE,), seeds=(0,)),),
        variants=_OPTIONS,
        borrows=SHORT.name,
    ),
    Suite(
        name="layers-digits",
        summary="noise layers on digits, where minutes are enough for three seeds",
        source="digits",
        epochs=20,
        batch=32,
        evaluate=20,
        recipes=("erm", *_LAYERS, *_OPTIONS),
        noises=(UNIFORM, "asymmetric:0.3", INSTANCE),
        variants=_OPTIONS,
        borrows="digits",
    ),
)
