"""What ``errata audit`` does, as a function for Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from errata.auditing import audit as run_audit
from errata.config import DEFAULT_RECIPE, Settings, SourceSettings, set_paths
from errata.data.samples import Samples
from errata.directory import AuditDirectory
from errata.engine.run import Engine
from errata.job import open_settings
from errata.types import Source

__all__ = ["audit"]


def audit(
    source: str | Path | Source,
    *,
    recipe: str = DEFAULT_RECIPE,
    out: str | Path = "audit",
    epochs: int | None = None,
    model: str = "auto",
    noise: str | None = None,
    labels: str | None = None,
    tests: Mapping[str, str | Source] | None = None,
    limit: int | None = None,
    folds: int = 0,
    flag: str = "auto",
    open_set: bool = False,
    augment: str = "none",
    seed: int = 0,
    device: str = "auto",
    settings: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
) -> AuditDirectory:
    """Train by a recipe, record every sample, find the wrong labels, and write an audit.

    Args:
        source: What ``errata audit`` takes, or an object with samples and labels such as
            `errata.data.Arrays`.
        recipe: One name, or several joined by ``+``.
        out: The audit directory.
        epochs: None chooses by the number of rows.
        model: ``auto`` chooses by the size of the pictures.
        noise: Errors to plant before training, such as ``uniform:0.2``; not for objects.
        labels: File that replaces labels by id; not for objects.
        tests: Labelled test sets by name, for evaluation only; objects need a source object.
        limit: Keep this many training rows; not for objects.
        folds: Trainings for held-out probabilities; 0 trains once.
        flag: ``auto``, ``fdr:Q`` or ``top:N``.
        open_set: Look for samples of no class as well, which get no proposal.
        augment: ``none`` or a list such as ``flip,crop:4``.
        seed: Start of every random stream.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``.
        settings: Further ``PATH=VALUE`` settings, as ``--set`` takes them.
        resume: Go on with an interrupted audit.
        overwrite: Replace a finished audit of the same data that nobody has reviewed.

    Returns:
        The audit, with `summary`, `issues`, `worst`, `record` and `ledger`.

    Raises:
        ErrataError: The data, the settings or the place to write are not usable.
    """
    named = {k: str(v) for k, v in (tests or {}).items() if isinstance(v, str | Path)}
    chosen = Settings(
        seed=seed,
        recipe=recipe,
        model=model,
        augment=augment,
        flag=flag,
        folds=folds,
        open_set=open_set,
        source=SourceSettings(noise=noise, labels=labels, limit=limit, tests=named),
        engine=Engine(device=device),
    )
    objects = {k: v for k, v in (tests or {}).items() if not isinstance(v, str | Path)}
    if isinstance(source, str | Path):
        chosen.source.spec = str(source)
        samples = open_settings(chosen)
        samples = replace(samples, tests={**samples.tests, **objects})
    else:
        chosen.source.spec = source.name
        samples = Samples(source, objects, None, "", (), (), None)
    run_audit(
        chosen,
        out=out,
        epochs=epochs,
        resume=resume,
        overwrite=overwrite,
        adjust=lambda resolved: set_paths(resolved, settings),
        samples=samples,
    )
    return AuditDirectory.open(out)
