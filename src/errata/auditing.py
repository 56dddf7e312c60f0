"""One audit from data to directory: train, detect, decide, measure, write. And plain training.

This is the one place that joins training, `errata.finding` and the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from errata.confidence.calibration import Calibration
from errata.config import Settings
from errata.correct.relabelling import expected_change
from errata.data.open_set import OpenTruth
from errata.data.samples import Samples
from errata.detect import Findings
from errata.detect.decide import parse_flag
from errata.directory import (
    AuditDirectory,
    guard_writes,
    write_issues,
    write_memory,
    write_summary,
    write_unreadable,
)
from errata.engine.evaluate import label_report, planted_report
from errata.engine.held_out import calibrate_on, hold_out
from errata.engine.honesty import measured
from errata.engine.modelfile import save_model
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_feed
from errata.errors import ErrataError
from errata.finding import (
    calibrate_by_folds,
    early_features,
    find_suspects,
    predict_all,
    train_for_detectors,
    warn_of_little_learning,
)
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
from errata.review.judged import judged_issues
from errata.types import Source

__all__ = ["Progress", "audit", "train", "write_report"]


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
    features = early_features(job)
    run = fit_job(job)
    job.progress.phase("looking at every sample once more")
    predict_all(run)
    calibration = calibrate_by_folds(job, run) if job.settings.folds else None
    train_for_detectors(job, run)
    warn_of_little_learning(run)
    job.progress.phase("finding suspects")
    findings, rate = find_suspects(run, job.settings, features)
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
