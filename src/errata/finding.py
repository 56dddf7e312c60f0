"""From a finished run to its suspects: predict every row, score, estimate the rate, decide.

Some detectors need further trainings: folds, an ensemble, rows made wrong on purpose.

Shapes: N rows, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from errata.confidence.calibration import Calibration, fit_calibration
from errata.config import USUAL, Settings, asked_detectors, program_of
from errata.data import Subset
from errata.data.augment import Augment
from errata.detect import (
    Detector,
    Findings,
    Scores,
    consensus,
    decide,
    default_detectors,
    detector_named,
    estimate_rate,
)
from errata.detect.from_features import explain_by_neighbours, read_evidence, write_neighbours
from errata.detect.open_set import open_scores
from errata.detect.reading import averaged_probs
from errata.engine.bootstrap import Resampled, bootstrap, write_ensemble
from errata.engine.crossfit import crossfit
from errata.engine.fit import Listener, fit
from errata.engine.held_out import matrix_of
from errata.engine.run import TrainingRun
from errata.engine.threshold import FakeClass, search_by_threshold, write_threshold
from errata.errors import SettingsError
from errata.features.module import read_features
from errata.job import Job
from errata.ledger import standard
from errata.observe import Observer, Track
from errata.types import Source

__all__ = [
    "LEAST_AGREEMENT",
    "calibrate_by_folds",
    "early_features",
    "find_suspects",
    "predict_all",
    "train_for_detectors",
    "warn_of_little_learning",
]

LEAST_AGREEMENT = 0.5
"""Share of given labels that a network predicts where it has learned something to judge by."""


def early_features(job: Job) -> Float[Tensor, "N D"] | None:
    """Read the features before training, so that a wrong file costs no time; None for none."""
    if job.settings.features is None:
        return None
    return read_features(job.settings.features, len(job.samples.source.ids))


def predict_all(run: TrainingRun) -> None:
    """Write the mean prediction of the trained nets for every row to the ledger, `final_prob`."""
    run.ledger.add("audit", standard("final_prob", shape=(run.classes,)))
    everyone = torch.arange(run.num_rows)
    probs = torch.stack([run.sweep(k)[0].softmax(1) for k in range(len(run.nets))]).mean(0)
    run.ledger.write("final_prob", everyone.to(run.device), probs, stamp=run.tick)


def calibrate_by_folds(job: Job, run: TrainingRun) -> Calibration | None:
    """Predict every row by nets that never saw it, `prob_oof`, and fit the calibration to that."""
    settings = job.settings
    job.progress.phase(f"training {settings.folds} folds")
    folder = job.work / "work" / "folds"
    folder.mkdir(parents=True, exist_ok=True)

    def fit_source(source: Subset, checkpoint: Path) -> TrainingRun:
        return _fit_again(job, source, checkpoint, seed=settings.seed, rows=source.rows)

    source = job.samples.source
    probs = crossfit(fit_source, source, settings.folds, seed=settings.seed, work=folder)
    run.ledger.add("audit", standard("prob_oof", shape=(run.classes,)))
    everyone = torch.arange(run.num_rows, device=run.device)
    run.ledger.write("prob_oof", everyone, torch.from_numpy(probs), stamp=run.tick)
    return fit_calibration(probs, source.given, transition=matrix_of(run))


def train_for_detectors(job: Job, run: TrainingRun) -> None:
    """Run the trainings that `detect.bootstrap` and `detect.threshold` ask for."""
    asked = job.settings.detect
    if asked.bootstrap:
        job.progress.phase(f"training {asked.bootstrap} members of an ensemble")
        _train_ensemble(job, run)
    if asked.threshold:
        job.progress.phase(f"training {asked.threshold} times with rows made wrong")
        try:
            _train_with_fakes(job, run)
        except SettingsError as error:
            # A matrix of the classes, say, has no room for one more; the audit goes on.
            run.warn(f"threshold samples are left out: {error.message}")


def _train_ensemble(job: Job, run: TrainingRun) -> None:
    asked, seed, source = job.settings.detect, job.settings.seed, job.samples.source

    def fit_member(part: Source, checkpoint: Path, seed: int) -> TrainingRun:
        assert isinstance(part, Resampled)
        return _fit_again(job, part, checkpoint, seed=seed, rows=part.rows)

    work = job.work / "work" / "bootstrap"
    found = bootstrap(fit_member, source, asked.bootstrap, seed=seed, work=work)
    write_ensemble(run.ledger, found, stamp=run.tick)


def _train_with_fakes(job: Job, run: TrainingRun) -> None:
    asked, seed, source = job.settings.detect, job.settings.seed, job.samples.source

    def fit_fake(part: Source, checkpoint: Path) -> TrainingRun:
        assert isinstance(part, FakeClass)
        rows = np.arange(len(part.ids))
        return _fit_again(job, part, checkpoint, seed=seed, rows=rows, observers=(Track(),))

    work = job.work / "work" / "threshold"
    found = search_by_threshold(fit_fake, source, runs=asked.threshold, seed=seed, work=work)
    write_threshold(run.ledger, found, stamp=run.tick)


def _fit_again(
    job: Job,
    source: Source,
    checkpoint: Path,
    *,
    seed: int,
    rows: np.ndarray,
    observers: Sequence[Observer] = (),
) -> TrainingRun:
    """Train by the same settings on other samples, which are these `rows` of the source."""
    settings, samples = job.settings, job.samples
    weights = None if samples.weights is None else torch.from_numpy(samples.weights[rows])
    verified = None
    if samples.verified is not None:
        # What people said of a label does not hold for another one in its place.
        same = source.given == samples.source.given[rows]
        verified = torch.from_numpy(np.where(same, samples.verified[rows], -1))
    return fit(
        program_of(settings),
        source,
        model=settings.model,
        seed=seed,
        augment=Augment.parse(settings.augment),
        engine=settings.engine,
        observers=tuple(observers),
        weights=weights,
        clean=samples.clean,
        verified=verified,
        checkpoint=checkpoint,
        resume=True,
        listener=Listener(on_step=job.progress.share),
    )


def _detectors(run: TrainingRun, names: Sequence[str]) -> list[Detector]:
    """Build the detectors asked for; those that cannot read this training are left out."""
    usual = default_detectors(run.ledger) if USUAL in names else []
    known = {USUAL, *(detector.name for detector in usual)}
    asked = [*usual, *(detector_named(name) for name in names if name not in known)]
    found = [detector for detector in asked if detector.fits(run.ledger)]
    for detector in asked:
        if detector not in found:
            lacking = [name for name in detector.reads if not run.ledger.has(name)]
            run.warn(
                f"detector `{detector.name}` is left out: this training recorded no "
                f"`{'`, `'.join(lacking)}`"
            )
    return found or default_detectors(run.ledger)


def warn_of_little_learning(run: TrainingRun) -> None:
    """Warn where the given labels were hardly learned, so that disagreement says little."""
    rows = run.labelled.to(run.device)
    predicted = run.ledger.read("final_prob", rows).float().argmax(1)
    agreement = float((predicted == run.given[rows]).float().mean())
    if agreement < LEAST_AGREEMENT:
        run.warn(
            f"the trained network predicts only {agreement:.0%} of the given labels: either most "
            "are wrong, or it has not learned the task, and then suspects and estimate mean "
            "little; train for longer with --epochs, or with another --model"
        )


def find_suspects(
    run: TrainingRun, settings: Settings, features: Float[Tensor, "N D"] | None
) -> tuple[Findings, dict[str, Any]]:
    """Score every row, estimate the noise rate and decide which rows are suspects.

    Args:
        run: A finished run; the ledger gets `suspicion` and `proposed`, and with features the
            nearest rows.
        settings: Which rows to call suspects, and whether to look for samples of no class.
        features: Of a file, or None.

    Returns:
        The findings, and the estimated rate as ``estimate``, ``low``, ``high`` and ``method``.
    """
    ledger = run.ledger
    scores = [detector.score(ledger) for detector in _detectors(run, asked_detectors(settings))]
    given, names = np.asarray(ledger.given, dtype=np.int64), ledger.classes
    evidence = (
        None
        if features is None
        else read_evidence(features, given, names=names, seed=settings.seed)
    )
    scores += [] if evidence is None else evidence.scores
    joined = consensus(scores)
    rate = estimate_rate(ledger, joined)
    findings = decide(
        ledger,
        scores,
        joined,
        rate,
        flag=settings.flag,
        obvious=settings.obvious,
        open_set=_open_set(run, features, given) if settings.open_set else None,
    )
    if evidence is not None:
        write_neighbours(ledger, evidence.near)
        findings = explain_by_neighbours(
            findings,
            lambda row: evidence.near[row],
            given,
            name=names.__getitem__,
            key=lambda row: str(ledger.ids[row]),
        )
    everyone = torch.arange(ledger.num_rows, device=ledger.device)
    ledger.add("detect", standard("suspicion"), standard("proposed"))
    ledger.write("suspicion", everyone, torch.from_numpy(findings.suspicion), stamp=0)
    ledger.write("proposed", everyone, torch.from_numpy(findings.proposed), stamp=0)
    words = {"estimate": rate.estimate, "low": rate.low, "high": rate.high, "method": rate.method}
    return findings, words


def _open_set(run: TrainingRun, features: Tensor | None, given: np.ndarray) -> Scores:
    """Score every row for showing no class, by the features of a file or of the trained net."""
    found = features if features is not None else run.sweep(0)[1]
    assert found is not None, "every net of ours has features"
    probs = averaged_probs(run.ledger)
    assert probs is not None, "every audit sums up its predictions"
    return open_scores(found.float().cpu(), probs, given)
