"""What an audit and a training have in common: data, settings, a place to work, a summary."""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import errata
from errata.config import Settings, check_detect, program_of, settings_to_tree, stages_of
from errata.correct.lineage import parent_of
from errata.data.augment import Augment
from errata.data.samples import Samples, open_samples
from errata.directory import check_out, guard_writes, publish, staging, write_settings
from errata.engine.fit import Listener, fit
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_feed, test_report
from errata.errors import ErrataError, SettingsError
from errata.ledger import Ledger
from errata.machine import peak_memory_mb
from errata.methods import card_named
from errata.models import build_model, default_model
from errata.observe import Representation, Track, Trajectory
from errata.types import Source

__all__ = [
    "Adjust",
    "Job",
    "Progress",
    "Summary",
    "begin",
    "facts",
    "fit_job",
    "open_settings",
    "resolve",
    "summary_of",
    "writing",
]

Summary = dict[str, Any]
Adjust = Callable[[Settings], Settings]
TRACK = (Track(), Representation())


@dataclass(frozen=True)
class Progress:
    """Who is told how far the work is; every field may be left out.

    Attributes:
        phase: Called with a few words when another phase starts.
        share: Called with 0 to 1 while training goes on.
        estimate: Called with the seconds that training will take, before it starts.
        epoch: Called with the record of every finished epoch.
    """

    phase: Callable[[str], None] = lambda words: None
    share: Callable[[float], None] | None = None
    estimate: Callable[[float], None] | None = None
    epoch: Callable[[dict[str, Any]], None] = lambda record: None


def resolve(settings: Settings, source: Source, *, epochs: int | None = None) -> Settings:
    """Spell out what was left to errata: the stages and the model.

    Args:
        settings: As the user gave them.
        source: Training samples, whose number and size decide.
        epochs: Epochs of every stage; None chooses by the number of labelled rows.
    """
    rows = int((source.given >= 0).sum())
    stage = settings.stage or stages_of(settings.recipe, rows=rows, epochs=epochs)
    model = default_model(source.shape) if settings.model == "auto" else settings.model
    return replace(settings, stage=stage, model=model)


_INPUTS = {
    "clean": "a SOURCE of trusted samples outside the training set, or --verified with rows that "
    "people found right",
    "verified": "a csv file with `id,is_correct` or `id,label`",
}


def open_settings(settings: Settings) -> Samples:
    """Open the data that settings name.

    Raises:
        SourceError: They cannot be used as they are.
        SettingsError: They need what this version does not have.
    """
    where = settings.source
    check_inputs(settings)
    return open_samples(
        where.spec,
        labels=where.labels,
        images=where.images,
        limit=where.limit,
        noise=where.noise,
        truth=where.truth,
        size=where.size,
        column=where.column,
        tests=where.tests,
        clean=where.clean,
        verified=where.verified,
        seed=settings.seed,
    )


def check_inputs(settings: Settings) -> None:
    """Refuse trusted samples or verification labels without use, and recipes that lack them.

    Rows verified as right stand in for trusted samples where none are given.

    Raises:
        SettingsError: A flag is missing, or no recipe of the composition reads what it gives.
    """
    cards = [card_named(name.strip()) for name in settings.recipe.split("+")]
    flags = {name: getattr(settings.source, name) is not None for name in ("clean", "verified")}
    if flags["verified"] and not flags["clean"] and any("clean" in card.needs for card in cards):
        return
    for name, given in flags.items():
        users = [card.name for card in cards if name in (*card.needs, *card.takes)]
        if given and not users:
            raise SettingsError(
                f"--{name} is given, but recipe `{settings.recipe}` has no use for it",
                hint=f"leave --{name} out; `errata recipes --needs {name}` lists those that do",
            )
        needy = [card.name for card in cards if name in card.needs]
        if needy and not given:
            raise SettingsError(
                f"recipe `{needy[0]}` needs --{name}; allowed: {_INPUTS[name]}",
                hint=f"give --{name}, or choose a recipe that `errata recipes` lists without it",
            )


@dataclass(frozen=True)
class Job:
    """One audit or training under way."""

    settings: Settings
    samples: Samples
    out: Path
    work: Path
    finished: bool
    resume: bool
    overwrite: bool
    progress: Progress
    began: float


def _check(settings: Settings, source: Source) -> None:
    """Refuse what would fail later, while nothing has been written."""
    program_of(settings)
    check_detect(settings)
    Augment.parse(settings.augment).check(source.shape)
    with torch.device("meta"):
        build_model(settings.model, source.shape, len(source.classes))


def begin(
    settings: Settings,
    out: Path,
    epochs: int | None,
    adjust: Adjust,
    progress: Progress | None,
    *,
    resume: bool,
    overwrite: bool,
    samples: Samples | None = None,
) -> Job:
    """Check everything that can be checked before any work is done."""
    progress = progress or Progress()
    began = time.perf_counter()
    progress.phase("reading samples")
    samples = samples or open_settings(settings)
    source = samples.source
    settings = adjust(resolve(settings, source, epochs=epochs))
    _check(settings, source)
    fingerprint = Ledger(source.ids, source.given, source.classes).fingerprint
    standing = check_out(out, fingerprint, resume=resume, overwrite=overwrite)
    if standing == "finished":
        return Job(settings, samples, out, out, True, resume, overwrite, progress, began)
    work = staging(out, fresh=standing == "new")
    write_settings(work / "settings.toml", _made(settings, fingerprint))
    going_on = standing == "resume"
    return Job(settings, samples, out, work, False, going_on, overwrite, progress, began)


@contextmanager
def writing(job: Job) -> Iterator[None]:
    """Guard the writing of results, then publish them and clear away what a resume needs."""
    job.progress.phase("writing")
    with guard_writes(job.work, kept="make room, then go on with --resume; no training is lost"):
        yield
    publish(job.work, job.out, overwrite=job.overwrite)
    shutil.rmtree(job.out / "work", ignore_errors=True)


@contextmanager
def _nothing_left(work: Path) -> Iterator[None]:
    """Clear a place away whose run is refused before it has a checkpoint: a next one is new."""
    try:
        yield
    except ErrataError:
        if not (work / "work").exists():
            shutil.rmtree(work, ignore_errors=True)
        raise


def fit_job(job: Job) -> TrainingRun:
    """Train, and write the log of the epochs."""
    job.progress.phase("training")
    settings, samples = job.settings, job.samples
    weights = None if samples.weights is None else torch.from_numpy(samples.weights)
    with _nothing_left(job.work):
        run = fit(
            program_of(settings),
            samples.source,
            model=settings.model,
            seed=settings.seed,
            augment=Augment.parse(settings.augment),
            engine=settings.engine,
            observers=(*TRACK, Trajectory()) if settings.detect.trajectory else TRACK,
            weights=weights,
            clean=samples.clean,
            verified=None if samples.verified is None else torch.from_numpy(samples.verified),
            tests=samples.tests,
            test_every=_test_every(settings),
            checkpoint=job.work / "work" / "checkpoint",
            resume=job.resume,
            listener=Listener(job.progress.epoch, job.progress.share, job.progress.estimate),
        )
    lines = job.work / "log.jsonl"
    with guard_writes(lines):
        lines.write_text("".join(json.dumps(_finite(r)) + "\n" for r in run.history), "utf-8")
    return run


def _test_every(settings: Settings) -> int:
    """Measure about six times on the way, so that curves have points and little time is spent."""
    return max(1, sum(stage.epochs for stage in settings.stage) // 6)


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Write null for numbers that JSON does not have, such as the loss of a diverged run."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }


def summary_of(job: Job, run: TrainingRun) -> Summary:
    """Say what was done; what finds errors is added by `audit`."""
    settings, samples = job.settings, job.samples
    tests = {
        name: test_report(mean_probabilities(run, test_feed(run, test)), test.given)
        for name, test in samples.tests.items()
    }
    presented = sum(record["rows"] for record in run.history)
    return {
        "command": "",
        "version": errata.__version__,
        "source": samples.source.name,
        "rows": run.num_rows,
        "unlabelled": int((samples.source.given < 0).sum()),
        "classes": run.classes,
        "recipe": settings.recipe,
        "model": settings.model,
        "epochs": sum(stage.epochs for stage in settings.stage),
        "seed": settings.seed,
        "device": str(run.device),
        "noise": samples.noise or None,
        "parent": parent_of(settings_to_tree(settings)),
        "seconds": round(time.perf_counter() - job.began, 3),
        "training_seconds": round(run.seconds, 3),
        "images_per_second": round(presented / max(run.seconds, 1e-9), 1),
        "peak_memory_mb": peak_memory_mb(),
        "removed": run.notes.get("removed"),
        "notes": run.notes,
        "test": next(iter(tests.values())) if len(tests) == 1 else (tests or None),
        "unreadable": len(samples.unreadable),
        "conflicts": len(samples.conflicts),
        "clean_rows": None if samples.clean is None else len(samples.clean.ids),
        "verified_rows": None if samples.verified is None else int((samples.verified >= 0).sum()),
        "warnings": list(run.warnings),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "out": str(job.out),
    }


def facts(settings: Settings) -> dict[str, Any]:
    """Say what a saved model came from."""
    return {"recipe": settings.recipe, "seed": settings.seed, "errata": errata.__version__}


def _made(settings: Settings, fingerprint: str) -> dict[str, Any]:
    made = {
        "errata": errata.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {"fingerprint": fingerprint, **settings_to_tree(settings), "made": made}
