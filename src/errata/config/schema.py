"""The settings of a run as typed data: what users may set, with defaults and allowed values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from errata.engine.run import Engine
from errata.parts.base import OptimizerSpec

__all__ = ["DEFAULT_RECIPE", "DetectSettings", "Settings", "SourceSettings", "StageSettings"]

DEFAULT_RECIPE = "odd+mixup"
"""Chosen by our own benchmark: docs/decisions/0013."""


@dataclass(kw_only=True)
class SourceSettings:
    """Where the data come from.

    Attributes:
        spec: SOURCE as typed: ``digits``, a folder, a table, an npz, ``fashion-mnist:DIR``.
        labels: File that replaces labels by id.
        images: Where a table's paths start.
        limit: Keep this many training rows.
        noise: Kind and rate of planted errors.
        truth: File with the true labels, for evaluation only.
        size: Side of the squares that pictures are resized to.
        column: Which of several label columns to take.
        tests: Labelled test sets by name, for evaluation only.
        clean: Trusted samples outside the training set.
        verified: File of verification labels.
    """

    spec: str = "digits"
    labels: str | None = None
    images: str | None = None
    limit: int | None = None
    noise: str | None = None
    truth: str | None = None
    size: int | None = None
    column: str | None = None
    tests: dict[str, str] = field(default_factory=dict)
    clean: str | None = None
    verified: str | None = None


@dataclass(kw_only=True)
class StageSettings:
    """One stage: its recipe spelled out, its length and its optimizer.

    Attributes:
        loss: ``{"kind": name, ...values}``.
        parts: ``{"kind": name, ...fields}`` each, in order.
    """

    epochs: int
    batch: int = 128
    reset: bool = True
    step: str = "plain"
    nets: int = 1
    views: int = 1
    loss: dict[str, Any] = field(default_factory=lambda: {"kind": "ce"})
    parts: list[dict[str, Any]] = field(default_factory=list)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)


@dataclass(kw_only=True)
class DetectSettings:
    """What an audit asks for wrong labels, beside or in place of its usual detectors.

    Attributes:
        detectors: Who orders the rows: names of detectors, such as ``noise_model,wrong_event``;
            ``default`` stands for the usual ones.
        trajectory: Keep the prediction of every epoch, which some detectors use.
        bootstrap: Members of an ensemble that predicts rows it never saw; 0 is off.
        threshold: Trainings with rows made wrong on purpose; 0 is off.
    """

    detectors: str = "default"
    trajectory: bool = False
    bootstrap: int = 0
    threshold: int = 0


@dataclass(kw_only=True)
class Settings:
    """Everything that decides the outcome of a run; written into its directory.

    Attributes:
        recipe: Short name of the stages, as typed.
        model: Name of a model; ``auto`` chooses by the size of the pictures.
        augment: ``none``, or a list such as ``flip,crop:4,cutout:8``.
        flag: Operating point: ``auto``, ``fdr:Q`` or ``top:N``.
        obvious: Probability above which a flagged row is called obvious.
        folds: Held-out folds; 0 trains once.
        features: ``.npy`` file of features [N, D], for neighbours.
        open_set: Look for samples of no class as well.
        detect: Which detectors order the rows, and the trainings that some of them need.
        stage: The program, resolved from the recipe.
    """

    seed: int = 0
    recipe: str = DEFAULT_RECIPE
    model: str = "auto"
    augment: str = "none"
    flag: str = "auto"
    obvious: float = 0.95
    folds: int = 0
    features: str | None = None
    open_set: bool = False
    detect: DetectSettings = field(default_factory=DetectSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    engine: Engine = field(default_factory=Engine)
    stage: list[StageSettings] = field(default_factory=list)
