"""One audit from data to directory: train, detect, decide, measure, write. And plain training.

This is the one place that joins the engine, the detectors and the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errata.confidence.calibration import Calibration, fit_calibration
from errata.config import Settings, program_of
from errata.correct.relabelling import expected_change
from errata.data.augment import Augment
from errata.data.open_set import OpenTruth
from errata.data.samples import Samples
from errata.detect import Findings, Scores, consensus, decide, default_detectors, estimate_rate
from errata.detect.decide import parse_flag
from errata.detect.from_features import explain_by_neighbours, read_evidence, write_neighbours
from errata.detect.open_set import open_scores
from errata.detect.reading import averaged_probs
from errata.directory import (
    AuditDirectory,
    guard_writes,
    write_issues,
    write_memory,
    write_summary,
    write_unreadable,
)
from errata.engine.crossfit import crossfit
from errata.engine.evaluate import (
    label_report,
    mean_probabilities,
    planted_report,
    test_feed,
)
from errata.engine.fit import Listener, fit
from errata.engine.held_out import calibrate_on, hold_out, matrix_of
from errata.engine.honesty import measured
from errata.engine.modelfile import save_model
from errata.engine.run import TrainingRun
from errata.errors import ErrataError
from errata.features.module import read_features
from errata.job import (
    Adjust,
    Job,
    Progress,
    Summary,
    begin,
    facts,
    fit_job,
    open_settings,
    summary_of,
    writing,
)
from errata.ledger import standard
from errata.review.judged import judged_issues
from errata.types import Source

__all__ = ["Progress", "audit", "train", "write_report"]

LEAST_AGREEMENT = 0.5
"""Share of given labels that a network predicts where it has learned something to judge by."""


def audit(
    settings: Settings,
    *,
    out: str | Path = "audit",
    epochs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    adjust: Adjust = lambda settings: settings,
    progress: Progress | None = None,
    samples: Samples | None = None,
) -> Summary:
    """Train by a recipe, record every sample, find suspects, and write an audit directory.

    Args:
        settings: What to audit, and how.
        out: The directory; it appears when it is complete.
        epochs: Epochs of every stage; None chooses by the number of rows.
        resume: Go on with an interrupted audit.
        overwrite: Replace a finished audit of the same data that nobody has reviewed.
        adjust: Changes the resolved settings, as ``--set`` does.
        progress: Told how far the work is.
        samples: Data that are open already; None opens those that the settings name.

    Returns:
        The object that ``--json`` prints; its keys stand in the reference of the command line.

    Raises:
        ErrataError: The data, the settings or the place to write are not usable.
    """
    parse_flag(settings.flag)
    job = begin(
        settings,
        Path(out),
        epochs,
        adjust,
        progress,
        resume=resume,
        overwrite=overwrite,
        samples=samples,
    )
    if job.finished:
        return AuditDirectory.open(job.out).summary
    features = _features(job)
    run = fit_job(job)
    job.progress.phase("looking at every sample once more")
    _final_sweep(run)
    calibration = _held_out(job, run) if job.settings.folds else None
    _warn_of_little_learning(run)
    job.progress.phase("finding suspects")
    findings, rate = _detect(run, job.settings, features)
    tiers = ("obvious", "possible", "fine")
    summary = {
        **_summary(job, run, calibration),
        "command": "audit",
        "suspects": int(findings.flagged.sum()),
        "noise_rate": rate,
        "tiers": {tier: int((findings.tier == tier).sum()) for tier in tiers},
        "label_accuracy": expected_change(
            job.samples.source.given,
            findings.proposed,
            findings.p_wrong,
            findings.p_proposed,
            rate=rate,
            classes=job.samples.source.classes,
        ),
        "planted": _planted(job.samples, findings, rate),
        "labels": None
        if job.samples.truth is None
        else label_report(job.samples.truth, run.ledger),
        "report": str(job.out / "report.html"),
        "issues": str(job.out / "issues.csv"),
    }
    with writing(job):
        _write_findings(job, run, findings)
        save_model(
            run,
            job.work / "model",
            model=job.settings.model,
            facts=facts(job.settings),
            calibration=calibration,
        )
        write_summary(job.work / "summary.json", summary)
        _report(AuditDirectory.open(job.work), job.samples.source, job.work / "report.html")
    return AuditDirectory.open(job.out).summary


def train(
    settings: Settings,
    *,
    out: str | Path = "model",
    epochs: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    adjust: Adjust = lambda settings: settings,
    progress: Progress | None = None,
    calibration: float = 0.0,
) -> Summary:
    """Train by a recipe, measure on the test sets, and save the model.

    Arguments, result and errors are those of `audit`, less what finds errors. Beside them,
    `calibration` is the share of the labelled rows, 0 to below 1, that is kept out of training so
    that confidence can be fitted to it; 0 trains on all rows and calibrates nothing.
    """
    samples, held = hold_out(open_settings(settings), calibration, seed=settings.seed)
    job = begin(
        settings,
        Path(out),
        epochs,
        adjust,
        progress,
        resume=resume,
        overwrite=overwrite,
        samples=samples,
    )
    if job.finished:
        return AuditDirectory.open(job.out).summary
    run = fit_job(job)
    fitted = None if held is None else calibrate_on(run, held)
    summary = {**_summary(job, run, fitted), "command": "train"}
    with writing(job):
        run.ledger.save(job.work / "ledger")
        save_model(
            run,
            job.work,
            model=job.settings.model,
            facts=facts(job.settings),
            calibration=fitted,
        )
        write_summary(job.work / "summary.json", summary)
    return summary


def write_report(path: str | Path, *, source: Source | None = None) -> Path:
    """Write the report of a finished audit again and give its path.

    Where people have reviewed rows, probabilities and tiers are those that their verdicts make.

    Args:
        path: The audit directory.
        source: Where the pictures come from; None opens what the settings name. Without pictures
            the report shows placeholders.
    """
    from errata.config import load_settings

    finished = AuditDirectory.open(path)
    if source is None:
        try:
            settings = load_settings(finished.path / "settings.toml")
            source = open_settings(settings).source
        except ErrataError:
            source = None
    if source is not None and list(source.ids) != list(finished.ledger.ids):
        source = None
    finished.issues = judged_issues(finished)
    out = finished.path / "report.html"
    fresh = out.with_name("report.html.new")
    with guard_writes(out):
        _report(finished, source, fresh)
        fresh.replace(out)
    return out


def _report(finished: AuditDirectory, source: Source | None, out: Path) -> None:
    from errata.report import build_report

    show = (lambda row: b"") if source is None else source.show
    build_report(finished, show=show, out=out)


def _final_sweep(run: TrainingRun) -> None:
    run.ledger.add("audit", standard("final_prob", shape=(run.classes,)))
    everyone = torch.arange(run.num_rows)
    probs = torch.stack([run.sweep(k)[0].softmax(1) for k in range(len(run.nets))]).mean(0)
    run.ledger.write("final_prob", everyone.to(run.device), probs, stamp=run.tick)


def _warn_of_little_learning(run: TrainingRun) -> None:
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


def _summary(job: Job, run: TrainingRun, calibration: Calibration | None) -> Summary:
    """Say what was done, with the tests measured as the saved model will answer."""
    bare = replace(job, samples=replace(job.samples, tests={}))
    tests = {
        name: measured(mean_probabilities(run, test_feed(run, test)), test.given, calibration)
        for name, test in job.samples.tests.items()
    }
    return {
        **summary_of(bare, run),
        "test": next(iter(tests.values())) if len(tests) == 1 else (tests or None),
        "calibration": None if calibration is None else calibration.numbers(),
    }


def _held_out(job: Job, run: TrainingRun) -> Calibration | None:
    """Predict every row by nets that never saw it, and fit the calibration to that."""
    settings = job.settings
    job.progress.phase(f"training {settings.folds} folds")
    folder = job.work / "work" / "folds"
    folder.mkdir(parents=True, exist_ok=True)

    def fit_source(source: Source, checkpoint: Path) -> TrainingRun:
        return fit(
            program_of(settings),
            source,
            model=settings.model,
            seed=settings.seed,
            augment=Augment.parse(settings.augment),
            engine=settings.engine,
            observers=(),
            clean=job.samples.clean,
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


def _features(job: Job) -> torch.Tensor | None:
    """Read the features before training, so that a wrong file costs no time."""
    if job.settings.features is None:
        return None
    return read_features(job.settings.features, len(job.samples.source.ids))


def _detect(
    run: TrainingRun, settings: Settings, features: torch.Tensor | None
) -> tuple[Findings, dict[str, Any]]:
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


def _open_set(run: TrainingRun, features: torch.Tensor | None, given: np.ndarray) -> Scores:
    """Score every row for showing no class, by the features of a file or of the trained net."""
    found = features if features is not None else run.sweep(0)[1]
    assert found is not None, "every net of ours has features"
    probs = averaged_probs(run.ledger)
    assert probs is not None, "every audit sums up its predictions"
    return open_scores(found.float().cpu(), probs, given)


def _planted(
    samples: Samples, findings: Findings, rate: Mapping[str, Any]
) -> dict[str, Any] | None:
    if samples.truth is None:
        return None
    return planted_report(
        samples.truth,
        samples.source.given,
        suspicion=findings.suspicion,
        flagged=findings.flagged,
        proposed=findings.proposed,
        rate=rate["estimate"],
    )


def _write_findings(job: Job, run: TrainingRun, findings: Findings) -> None:
    work, samples, source = job.work, job.samples, job.samples.source
    run.ledger.save(work / "ledger")
    write_memory(work / "memory", run.memory)
    write_issues(work / "issues.csv", source.ids, source.classes, source.given, findings)
    if samples.unreadable:
        bad = [(each.id, str(each.path), each.why) for each in samples.unreadable]
        write_unreadable(work / "unreadable.csv", bad)
    if samples.truth is not None and job.settings.source.noise:
        truth = samples.truth
        place = work / "truth.npz"
        if isinstance(truth, OpenTruth):
            np.savez_compressed(place, clean=truth.clean, open=truth.open)
        else:
            np.savez_compressed(place, clean=truth.clean)
