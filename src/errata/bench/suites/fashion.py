"""Suites over every recipe: digits, and Fashion-MNIST in several protocols."""

from __future__ import annotations

from errata.bench.suites.base import Grid, Suite, Variant, recipes_given

__all__ = ["ASYMMETRIC", "INSTANCE", "PER_CLASS", "SHORT", "SUITES", "UNIFORM"]

_SOURCE = "fashion-mnist:{data}/fashion_mnist"
_FIRST = ("erm", "odd", "odd-phantom", "mixup", "gce", "odd+mixup")
_LONG = ("erm", "odd", "odd+mixup", "gce", "joint", "smp", "forward")

_ASK_GIVEN = "stage.parts.joint.ask_given=true"
_TUNED = {
    "joint@ask-given": Variant(recipe="joint", changes=(_ASK_GIVEN,)),
    "joint@ask-given+keep4": Variant(
        recipe="joint",
        changes=(_ASK_GIVEN, "stage.parts.joint.keep=4", "stage.parts.joint.beta=0.0"),
    ),
    "joint@ask-fitted+keep4": Variant(
        recipe="joint",
        changes=tuple(
            f"stage.parts.joint.{change}" for change in ("ask_fitted=true", "keep=4", "beta=0.0")
        ),
    ),
    "smp@centred+sc60+margin0.2": Variant(
        recipe="smp",
        changes=tuple(
            f"stage.parts.smp.{change}"
            for change in ("center=true", "sc_percentile=60", "margin=0.2")
        ),
    ),
    "smp@centred+sc60+margin0.2+alpha1": Variant(
        recipe="smp",
        changes=tuple(
            f"stage.parts.smp.{change}"
            for change in ("center=true", "sc_percentile=60", "margin=0.2", "alpha=1.0")
        ),
    ),
}
"""Settings that are ours, beside the values of the papers."""

UNIFORM = "uniform:0.4"
ASYMMETRIC = "asymmetric:0.4"
PER_CLASS = "per-class:0.5,0.1,0.4,0.2,0.3,0.3,0.2,0.4,0.1,0.5"
"""Our reading of non-homogeneous noise: a rate of its own for each class, .30 on average."""
INSTANCE = "instance:0.3"
_NOISES = (UNIFORM, ASYMMETRIC, PER_CLASS, INSTANCE)

SHORT = Suite(
    name="fashion-10k-30",
    summary="every recipe for 30 epochs on 10,000 images of Fashion-MNIST, four kinds of noise",
    source=_SOURCE,
    limit=10_000,
    validation=2_000,
    trusted=1_000,
    verified=0.25,
    augment="flip",
    epochs=30,
    recipes=("erm",),
    noises=(UNIFORM, "none"),
    seeds=(0,),
    more=(
        Grid(
            recipes=(*recipes_given("clean", "verified"), "odd+mixup"),
            noises=_NOISES,
            seeds=(0,),
        ),
    ),
    trajectories=True,
)
"""The protocol that sweeps share, and the cells that they borrow from."""

SUITES = (
    Suite(
        name="digits",
        summary="1,438 digits of scikit-learn, 20 epochs: minutes, and no file is needed",
        source="digits",
        epochs=20,
        batch=32,
        evaluate=20,
        recipes=_FIRST,
        noises=("none", "uniform:0.2", UNIFORM, "asymmetric:0.3"),
        more=(Grid(recipes=recipes_given(), noises=("none", UNIFORM), seeds=(0,)),),
    ),
    Suite(
        name="fashion-10k",
        summary="first 10,000 images of Fashion-MNIST, 60 epochs, flip: erm memorises here",
        source=_SOURCE,
        limit=10_000,
        validation=2_000,
        augment="flip",
        recipes=_FIRST,
        noises=(UNIFORM, "none"),
        more=(
            Grid(recipes=_LONG, noises=(UNIFORM,)),
            Grid(recipes=tuple(_TUNED), noises=(UNIFORM,), seeds=(0,)),
            Grid(
                recipes=("joint@ask-fitted+keep4", "smp@centred+sc60+margin0.2"),
                noises=(UNIFORM,),
            ),
            Grid(recipes=("joint", "smp", "forward"), noises=("none",), seeds=(0,)),
            Grid(recipes=_LONG, noises=_NOISES),
        ),
        variants=_TUNED,
    ),
    SHORT,
    Suite(
        name="fashion-10k-crop",
        summary="the same with pad-crop as well: erm memorises less",
        source=_SOURCE,
        limit=10_000,
        validation=2_000,
        augment="flip,crop:2",
        recipes=("erm", "odd"),
        noises=(UNIFORM,),
    ),
    Suite(
        name="fashion-10k-he",
        summary="fashion-10k with He initialisation: erm memorises less",
        source=_SOURCE,
        limit=10_000,
        validation=2_000,
        model="conv-he",
        augment="flip",
        recipes=("erm", "odd"),
        noises=(UNIFORM,),
    ),
    Suite(
        name="fashion-60k-he",
        summary="fashion-60k with He initialisation",
        source=_SOURCE,
        model="conv-he",
        augment="flip",
        epochs=12,
        evaluate=3,
        recipes=("erm", "odd"),
        noises=(UNIFORM,),
        seeds=(0,),
    ),
    Suite(
        name="fashion-60k",
        summary="all of Fashion-MNIST, 12 epochs: memorisation hardly hurts here",
        source=_SOURCE,
        augment="flip",
        epochs=12,
        evaluate=3,
        recipes=("erm", "odd"),
        noises=(UNIFORM,),
    ),
)
