"""Ablations of joint optimisation: its two terms, hard labels, and long-tailed classes."""

from __future__ import annotations

from dataclasses import replace

from errata.bench.suites.base import Variant
from errata.bench.suites.fashion import SHORT, UNIFORM

__all__ = ["SUITES"]

_NO_ENTROPY = ("stage.parts.joint.beta=0.0",)
_NO_PRIOR = ("stage.parts.joint.alpha=0.0",)
_ASK_GIVEN = ("stage.parts.joint.ask_given=true",)
_TERMS = {
    "joint@no-entropy": Variant(recipe="joint", changes=_NO_ENTROPY),
    "joint@no-prior": Variant(recipe="joint", changes=_NO_PRIOR),
    "joint@neither": Variant(recipe="joint", changes=(*_NO_ENTROPY, *_NO_PRIOR)),
    "joint@ask-given": Variant(recipe="joint", changes=_ASK_GIVEN),
}
_TAILS = {
    "joint@moving": Variant(recipe="joint", changes=("stage.parts.joint.moving=0.9",)),
    "joint@balanced": Variant(
        recipe="joint",
        changes=("stage.parts.joint.balanced=true", "stage.parts.use-labels.balanced=true"),
    ),
}

SUITES = (
    replace(
        SHORT,
        name="joint",
        summary="joint optimisation with and without its entropy and prior terms, and hard labels",
        recipes=("erm", "joint", "joint-hard", *_TERMS),
        noises=(UNIFORM,),
        more=(),
        variants=_TERMS,
        borrows=SHORT.name,
    ),
    replace(
        SHORT,
        name="joint-tail",
        summary="joint on 1:50 long-tailed classes: batch mean, moving mean, balanced drawing",
        long_tail=50.0,
        recipes=("erm", "joint", *_TAILS, "joint@no-prior"),
        noises=(UNIFORM, "none"),
        more=(),
        variants={**_TAILS, "joint@no-prior": _TERMS["joint@no-prior"]},
    ),
)
