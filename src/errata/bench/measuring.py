"""What a finished cell is measured by: one JSON object for the results file."""

from __future__ import annotations

import math
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import errata
from errata.bench.opening import Opened
from errata.bench.suites.base import Cell, Suite
from errata.detect import (
    consensus,
    default_detectors,
    detector_named,
    detector_names,
    estimate_rate,
)
from errata.engine import TrainingRun
from errata.engine.evaluate import (
    label_report,
    learning_curves,
    margin_auroc,
    planted_report,
    removed_report,
    suspicion_auroc,
    transition_report,
)
from errata.ledger import Ledger
from errata.machine import peak_memory_mb, processor_name

__all__ = ["Result", "hardware_of", "measured", "with_past"]

Result = dict[str, Any]
MOST_NUMBERS = 200
"""Longest series of a result; what is longer is about rows rather than epochs or stages."""


def measured(suite: Suite, cell: Cell, run: TrainingRun, opened: Opened) -> Result:
    """Measure a finished run of a cell."""
    result = _training(suite, cell, run, opened)
    result |= _detection(run, opened)
    result |= _corrections(suite, run, opened)
    # JSON has no NaN, which a diverged run is full of.
    finite: Result = _finite(result)
    return finite


def _training(suite: Suite, cell: Cell, run: TrainingRun, opened: Opened) -> Result:
    starts = np.cumsum([0, *(stage.epochs for stage in run.program)])
    curve = [record["test"] for record in run.history if "test" in record]
    epochs = [
        int(starts[record["stage"]]) + record["epoch"] + 1
        for record in run.history
        if "test" in record
    ]
    best = max(range(len(curve)), key=lambda i: curve[i].get("noisy-validation", 0.0))
    has_validation = "noisy-validation" in curve[-1]
    return {
        "suite": suite.name,
        "cell": cell.name,
        "recipe": cell.recipe,
        "noise": cell.noise,
        "seed": cell.seed,
        "rows": run.num_rows,
        "epochs": int(starts[-1]),
        "stages": [stage.epochs for stage in run.program],
        "clean_rows": None if opened.clean is None else len(opened.clean.ids),
        "verified_rows": None if opened.verified is None else int((opened.verified >= 0).sum()),
        "accuracy": curve[-1]["test"],
        "accuracy_curve": [record["test"] for record in curve],
        "curve_epochs": epochs,
        "accuracy_noisy_val": curve[best]["test"] if has_validation else None,
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "hardware": hardware_of(run.device),
        "precision": str(run.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": errata.__version__,
    }


def _detection(run: TrainingRun, opened: Opened) -> Result:
    truth, given, ledger = opened.planted.truth, opened.planted.source.given, run.ledger
    scores = consensus([detector.score(ledger) for detector in default_detectors(ledger)])
    rate = estimate_rate(ledger, scores)
    order = np.argsort(-np.nan_to_num(scores.suspicion, nan=-1.0), kind="stable")
    flagged = np.zeros(len(order), dtype=bool)
    flagged[order[: round(rate.estimate * len(order))]] = True
    planted = planted_report(
        truth,
        given,
        suspicion=scores.suspicion,
        flagged=flagged,
        proposed=scores.proposed,
        rate=rate.estimate,
    )
    removed = None
    if ledger.has("dropped"):
        removed = removed_report(truth, given, ledger.read("dropped").cpu().numpy())
        removed["threshold"] = run.notes.get("removed", {}).get("threshold")
    return {
        "realised_noise": planted["rate"],
        "auroc": planted["auroc"],
        "auroc_margin": margin_auroc(truth, ledger),
        "average_precision": planted["average_precision"],
        "f1": planted["f1"],
        "oracle_f1": planted["oracle_f1"],
        "rate_estimate": rate.estimate,
        "rate_error": planted["rate_error"],
        "removed": removed,
        "peak_memory_mb": _peak_memory_mb(run.device),
    }


def _corrections(suite: Suite, run: TrainingRun, opened: Opened) -> Result:
    truth = opened.planted.truth
    more: Result = {
        "labels": label_report(truth, run.ledger),
        "transition_error": transition_report(run, opened.transition),
        "series": _series(run),
    }
    if suite.trajectories:
        more["curves"] = learning_curves(truth, run.ledger)
        more["detectors"] = _detectors(run.ledger, opened)
    return more


def _series(run: TrainingRun) -> Result | None:
    """Give the rows of numbers that a recipe remembered, such as a share per epoch."""
    kept = {
        name: [round(each, 4) for each in tensor.double().tolist()]
        for name, tensor in run.memory.items()
        if tensor.ndim == 1 and len(tensor) <= MOST_NUMBERS
    }
    return kept or None


def _detectors(ledger: Ledger, opened: Opened) -> Result:
    """Give the AUROC of every registered detector that the ledger has the columns for."""
    truth, given = opened.planted.truth, opened.planted.source.given
    found = [detector_named(name) for name in detector_names()]
    aurocs = {
        detector.name: suspicion_auroc(truth, given, detector.score(ledger).suspicion)
        for detector in found
        if detector.fits(ledger)
    }
    return {name: None if auroc is None else round(auroc, 4) for name, auroc in aurocs.items()}


def with_past(result: Result, past: list[Result]) -> Result:
    """Compare a result with those before it: its cost, and what it reaches on true labels."""
    clean = [r for r in past if _alike(r, result, noise="none")]
    return {
        **result,
        "cost": _ratio(result, past, "cpu_seconds", recipe="erm"),
        "accuracy_clean_ceiling": clean[-1]["accuracy"] if clean else None,
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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hardware_of(device: torch.device) -> str:
    """Name what a device computes with."""
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
