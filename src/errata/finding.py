"""From a finished run to its suspects: predict every row, score, estimate the rate, decide.

Shapes: N rows, D feature width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from errata.confidence.calibration import Calibration, fit_calibration
from errata.config import Settings, program_of
from errata.data import Subset
from errata.data.augment import Augment
from errata.detect import Findings, Scores, consensus, decide, default_detectors, estimate_rate
from errata.detect.from_features import explain_by_neighbours, read_evidence, write_neighbours
from errata.detect.open_set import open_scores
from errata.detect.reading import averaged_probs
from errata.engine.crossfit import crossfit
from errata.engine.fit import Listener, fit
from errata.engine.held_out import matrix_of
from errata.engine.run import TrainingRun
from errata.features.module import read_features
from errata.job import Job
from errata.ledger import standard

__all__ = [
    "LEAST_AGREEMENT",
    "calibrate_by_folds",
    "early_features",
    "find_suspects",
    "predict_all",
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
        known = job.samples.weights, job.samples.verified
        weights, verified = (x if x is None else torch.from_numpy(x[source.rows]) for x in known)
        return fit(
            program_of(settings),
            source,
            model=settings.model,
            seed=settings.seed,
            augment=Augment.parse(settings.augment),
            engine=settings.engine,
            observers=(),
            weights=weights,
            clean=job.samples.clean,
            verified=verified,
            checkpoint=checkpoint,
            resume=True,
            listener=Listener(on_step=job.progress.share),
        )

    source = job.samples.source
    probs = crossfit(fit_source, source, settings.folds, seed=settings.seed, work=folder)
    run.ledger.add("audit", standard("prob_oof", shape=(run.classes,)))
    everyone = torch.arange(run.num_rows, device=run.device)
    run.ledger.write("prob_oof", everyone, torch.from_numpy(probs), stamp=run.tick)
    return fit_calibration(probs, source.given, transition=matrix_of(run))


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
    scores = [detector.score(ledger) for detector in default_detectors(ledger)]
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
