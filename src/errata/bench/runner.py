"""Running cells: the missing ones of a suite within some minutes, or one without a record."""

from __future__ import annotations

import fcntl
import fnmatch
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import errata
from errata.bench.suites import Cell, Suite, data_folder, suite_named
from errata.data import Augment, Subset, plant_noise
from errata.data.samples import Samples, open_samples
from errata.detect import consensus, default_detectors, estimate_rate
from errata.engine import Engine, Listener, TrainingRun, fit
from errata.engine.evaluate import margin_auroc, planted_report, removed_report
from errata.engine.fit import run_digest
from errata.machine import peak_memory_mb, processor_name
from errata.methods import phases_named
from errata.parts.base import stages_of_phases
from errata.types import Source

__all__ = ["RESULTS", "read_results", "run_cell", "run_next"]

RESULTS = Path("benchmarks/results.jsonl")
CHECKPOINT_S = 30.0
Result = dict[str, Any]


def read_results(path: Path) -> list[Result]:
    """Read the results so far; a missing file holds none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def run_next(
    suite: str,
    *,
    minutes: float,
    results: Path = RESULTS,
    only: str | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> Result:
    """Run missing cells of a suite until the minutes are over, and append what they measured.

    A cell that the time cuts off goes on from its checkpoint the next time. Several processes may
    work on one suite: each takes cells that no other holds.

    Args:
        suite: Name of the suite.
        minutes: No cell is started after them, and the running one is cut off.
        results: File of one JSON object per finished cell.
        only: Pattern of cell names, such as ``odd/*``.
        echo: Told one line per cell.

    Returns:
        ``{"suite", "finished": [cell names], "missing": how many are left}``.
    """
    chosen = suite_named(suite)
    until = time.monotonic() + 60 * minutes
    finished: list[str] = []
    results.parent.mkdir(parents=True, exist_ok=True)
    for cell in _missing(chosen, results, only):
        if time.monotonic() >= until:
            break
        work = results.parent / ".cells" / suite / cell.name.replace("/", "_")
        with _claim(work) as mine:
            if not mine or cell not in _missing(chosen, results, only):
                continue
            echo(f"{suite} {cell.name} ...")
            try:
                result = measure(chosen, cell, work=work, until=until, past=read_results(results))
            except _OutOfTime:
                echo(f"{suite} {cell.name}: cut off, goes on next time")
                break
            line = json.dumps(result) + "\n"
            with results.open("a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(line)
            shutil.rmtree(work, ignore_errors=True)
            finished.append(cell.name)
            echo(f"{suite} {cell.name}: {_words(result)}")
    return {"suite": suite, "finished": finished, "missing": len(_missing(chosen, results, None))}


def run_cell(suite: str, cell: str) -> Result:
    """Run one cell from start to end and give what it measured; no file changes."""
    chosen = suite_named(suite)
    return measure(chosen, chosen.cell_named(cell))


class _OutOfTime(Exception):  # noqa: N818  (it ends a fit; it is no error)
    pass


def _missing(suite: Suite, results: Path, only: str | None) -> list[Cell]:
    done = {r["cell"] for r in read_results(results) if r["suite"] == suite.name}
    pattern = only or "*"
    cells = (c for c in suite.cells() if fnmatch.fnmatch(c.name, pattern))
    return [cell for cell in cells if cell.name not in done]


@contextmanager
def _claim(work: Path) -> Iterator[bool]:
    """Hold a cell while it runs; gives False where another process holds it."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_name(work.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def open_cell(suite: Suite, cell: Cell) -> tuple[Samples, Source, Source | None]:
    """Open the samples of a cell: everything, training rows, validation rows (noisy labels)."""
    total = None if suite.limit is None else suite.limit + suite.validation
    needs_data = "{data}" in suite.source
    spec = suite.source.format(data=data_folder()) if needs_data else suite.source
    clean = open_samples(spec, limit=total, seed=cell.seed)
    rows = np.arange(len(clean.source.ids))
    cut = len(rows) if suite.limit is None else suite.limit
    training, held = Subset(clean.source, rows[:cut]), Subset(clean.source, rows[cut:])
    if cell.noise == "none":
        truth = _truth_of(clean, training)
        samples = Samples(training, clean.tests, truth, "", (), (), None)
        return samples, training, held if suite.validation else None
    planted = plant_noise(training, cell.noise, seed=cell.seed)
    validation = None
    if suite.validation:
        validation = plant_noise(held, cell.noise, seed=cell.seed).source
    samples = Samples(planted.source, clean.tests, planted.truth, planted.words, (), (), None)
    return samples, planted.source, validation


def _truth_of(clean: Samples, training: Source) -> Any:
    return plant_noise(training, "uniform:0", seed=0).truth if clean.truth is None else clean.truth


def measure(
    suite: Suite,
    cell: Cell,
    *,
    work: Path | None = None,
    until: float | None = None,
    past: list[Result] | None = None,
) -> Result:
    """Train a cell by the protocol of its suite and measure it."""
    samples, source, validation = open_cell(suite, cell)
    tests: dict[str, Source] = dict(samples.tests)
    if validation is not None:
        tests["noisy-validation"] = validation

    def on_epoch(record: Result) -> None:
        if until is not None and time.monotonic() >= until and record["epoch"] < suite.epochs - 1:
            raise _OutOfTime

    program = stages_of_phases(
        phases_named(cell.recipe),
        epochs=suite.epochs,
        batch=suite.batch,
        optimizer=suite.optimizer,
    )
    augment = Augment.parse(suite.augment)
    # Named by its settings, so that a checkpoint of other code or data is never gone on with.
    digest = run_digest(source, program, model=suite.model, augment=suite.augment)
    run = fit(
        program,
        source,
        model=suite.model,
        seed=cell.seed,
        augment=augment,
        engine=Engine(),
        tests=tests,
        test_every=suite.evaluate,
        checkpoint=None if work is None else work / digest,
        checkpoint_s=CHECKPOINT_S,
        resume=work is not None,
        listener=Listener(on_epoch),
    )
    result = _result(suite, cell, run)
    result |= _detection(run, samples, source)
    result["cost"] = _ratio(result, past or [], "cpu_seconds", recipe="erm")
    clean = [r for r in past or [] if _alike(r, result, noise="none")]
    result["accuracy_clean_ceiling"] = clean[-1]["accuracy"] if clean else None
    return result


def _result(suite: Suite, cell: Cell, run: TrainingRun) -> Result:
    curve = [r["test"] for r in run.history if "test" in r]
    best = max(range(len(curve)), key=lambda i: curve[i].get("noisy-validation", 0.0))
    has_validation = "noisy-validation" in curve[-1]
    return {
        "suite": suite.name,
        "cell": cell.name,
        "recipe": cell.recipe,
        "noise": cell.noise,
        "seed": cell.seed,
        "rows": run.num_rows,
        "epochs": suite.epochs,
        "accuracy": curve[-1]["test"],
        "accuracy_curve": [r["test"] for r in curve],
        "accuracy_noisy_val": curve[best]["test"] if has_validation else None,
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "hardware": _hardware(run.device),
        "precision": str(run.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": errata.__version__,
    }


def _detection(run: TrainingRun, samples: Samples, source: Source) -> Result:
    assert samples.truth is not None
    ledger = run.ledger
    scores = consensus([detector.score(ledger) for detector in default_detectors(ledger)])
    rate = estimate_rate(ledger, scores)
    order = np.argsort(-np.nan_to_num(scores.suspicion, nan=-1.0), kind="stable")
    flagged = np.zeros(len(order), dtype=bool)
    flagged[order[: round(rate.estimate * len(order))]] = True
    planted = planted_report(
        samples.truth,
        source.given,
        suspicion=scores.suspicion,
        flagged=flagged,
        proposed=scores.proposed,
        rate=rate.estimate,
    )
    removed = None
    if ledger.has("dropped"):
        removed = removed_report(samples.truth, source.given, ledger.read("dropped").cpu().numpy())
        removed["threshold"] = run.notes.get("removed", {}).get("threshold")
    return {
        "realised_noise": planted["rate"],
        "auroc": planted["auroc"],
        "auroc_margin": margin_auroc(samples.truth, ledger),
        "average_precision": planted["average_precision"],
        "f1": planted["f1"],
        "oracle_f1": planted["oracle_f1"],
        "rate_estimate": rate.estimate,
        "rate_error": planted["rate_error"],
        "removed": removed,
        "peak_memory_mb": _peak_memory_mb(run.device),
    }


def _alike(past: Result, result: Result, **changed: str) -> bool:
    keys = ("suite", "recipe", "noise", "seed")
    return all(past[key] == changed.get(key, result[key]) for key in keys)


def _ratio(result: Result, past: list[Result], key: str, **changed: str) -> float | None:
    """Compare with the newest result that differs in `changed` alone, on the same machine."""
    others = [r for r in past if _alike(r, result, **changed)]
    others = [r for r in others if r["hardware"] == result["hardware"]]
    if result["recipe"] == changed.get("recipe"):
        return 1.0
    return round(result[key] / others[-1][key], 3) if others else None


def _words(result: Result) -> str:
    auroc = result["auroc"]
    found = "no wrong labels" if auroc is None else f"AUROC {auroc:.4f}"
    return f"accuracy {result['accuracy']:.4f}, {found}, {result['seconds']:.0f} s"


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()


def _commit() -> str:
    try:
        here = Path(__file__).parent
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return peak_memory_mb()
