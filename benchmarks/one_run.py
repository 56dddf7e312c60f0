"""One training that is watched, against five-fold cross-validation with confident learning.

    ERRATA_DATA=DIR python benchmarks/one_run.py [--only CELL] [--seeds 1]

Both train the same small net by the same schedule on the same labels. The audit trains once on all
rows and reads the statistics kept for every row; confident learning trains five times on four
fifths, and ranks by its usual default (self-confidence) and by the normalised margin of the
held-out probabilities. Processor seconds include what follows the training. Finished cells are
kept in `benchmarks/one_run.json` and not run again.

Bars, stated before measuring: AUROC of the audit at least that of the better of the two rankings
less .001, processor seconds at most .27 of the five folds'.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errata.bench.suites import data_folder
from errata.data import Augment
from errata.data.samples import open_samples
from errata.detect import consensus, decide, default_detectors, estimate_rate
from errata.detect.score import find_label_errors
from errata.engine import Engine, fit
from errata.engine.crossfit import crossfit
from errata.engine.evaluate import (
    mean_probabilities,
    planted_report,
    suspicion_auroc,
    test_accuracy,
    test_feed,
)
from errata.engine.run import TrainingRun
from errata.machine import processor_name
from errata.measures import average_precision
from errata.methods import phases_named
from errata.observe import Track
from errata.parts.base import Program, stages_of_phases
from errata.types import Source

RESULTS = Path(__file__).with_suffix(".json")
FOLDS, BATCH = 5, 128
FASHION = "fashion-mnist:{data}/fashion_mnist"
CELLS = {
    "fashion uniform:0.4": (FASHION, 10_000, "uniform:0.4", "flip", 15),
    "fashion asymmetric:0.4": (FASHION, 10_000, "asymmetric:0.4", "flip", 15),
    "fashion instance:0.3": (FASHION, 10_000, "instance:0.3", "flip", 15),
    "cifar10n worst": ("cifar10n:{data}/cifar10n", 10_000, "", "flip,crop:4", 20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(asked.seeds):
        for name in CELLS:
            found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
            key = f"{name}, seed {seed}"
            if asked.only in name and key not in found:
                found[key] = run_cell(name, seed)
                text = json.dumps(found, indent=1, sort_keys=True) + "\n"
                RESULTS.write_text(text, encoding="utf-8")
                print(key, json.dumps(found[key]), flush=True)


def run_cell(name: str, seed: int) -> dict[str, Any]:
    """Measure both on one data set."""
    spec, rows, noise, augment, epochs = CELLS[name]
    samples = open_samples(
        spec.format(data=data_folder()),
        limit=rows,
        noise=noise or None,
        column=None if noise else "worst_label",
        seed=seed,
    )
    truth, source = samples.truth, samples.source
    assert truth is not None, name
    program = stages_of_phases(phases_named("erm"), epochs=epochs, batch=BATCH)
    wrong = (truth.clean != source.given)[truth.clean >= 0]

    start = time.process_time()
    run = _train(program, source, augment, seed, watch=True)
    each = [detector.score(run.ledger) for detector in default_detectors(run.ledger)]
    scores = consensus(each)
    rate = estimate_rate(run.ledger, scores)
    findings = decide(run.ledger, each, scores, rate)
    once = time.process_time() - start
    accuracy = {
        name: test_accuracy(mean_probabilities(run, test_feed(run, test)), test.given)
        for name, test in samples.tests.items()
    }
    report = planted_report(
        truth,
        source.given,
        suspicion=scores.suspicion,
        flagged=findings.flagged,
        proposed=findings.proposed,
        rate=rate.estimate,
    )

    start = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        probs = crossfit(
            lambda part, _: _train(program, part, augment, seed, watch=False),
            source,
            FOLDS,
            seed=seed,
            work=Path(work),
        )
    ranked = {
        way: find_label_errors(source.given, probs, score=way).suspicion
        for way in ("self-confidence", "margin")
    }
    folds = time.process_time() - start
    aurocs = {way: suspicion_auroc(truth, source.given, each) for way, each in ranked.items()}
    best = max(each for each in aurocs.values() if each is not None)
    return {
        "rows": len(source.given),
        "epochs": epochs,
        "wrong": round(float(wrong.mean()), 4),
        "audit": {
            "auroc": round(report["auroc"], 4),
            "average_precision": round(report["average_precision"], 4),
            "f1": round(report["f1"], 4),
            "oracle_f1": round(report["oracle_f1"], 4),
            "rate": round(rate.estimate, 4),
            "cpu_s": round(once, 1),
            "passes": 1,
            "test_accuracy": {key: round(value, 4) for key, value in accuracy.items()},
        },
        "five_folds": {
            **{f"auroc_{way}": round(float(each or 0), 4) for way, each in aurocs.items()},
            **{f"ap_{way}": _precision(each, truth.clean, source) for way, each in ranked.items()},
            "cpu_s": round(folds, 1),
            "passes": FOLDS * (FOLDS - 1) / FOLDS,
        },
        "cost_ratio": round(once / folds, 3),
        "holds": {
            "auroc": bool(report["auroc"] >= best - 0.001),
            "cost": bool(once / folds <= 0.27),
        },
        "hardware": processor_name(),
        "threads": 1,
        "date": date.today().isoformat(),
    }


def _train(
    program: Program, source: Source, augment: str, seed: int, *, watch: bool
) -> TrainingRun:
    return fit(
        program,
        source,
        model="conv",
        seed=seed,
        augment=Augment.parse(augment),
        engine=Engine(device="cpu"),
        observers=(Track(),) if watch else (),
    )


def _precision(suspicion: np.ndarray, clean: np.ndarray, source: Source) -> float:
    known = (clean >= 0) & (source.given >= 0)
    wrong = (clean != source.given)[known]
    return round(average_precision(np.nan_to_num(suspicion[known], nan=-1.0), wrong), 4)


if __name__ == "__main__":
    main()
