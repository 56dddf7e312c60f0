"""One training that is watched, against five-fold cross-validation with confident learning.

    ERRATA_DATA=DIR python benchmarks/one_run.py [--only CELL] [--seeds 1] [--again]

Both train the same small net by the same schedule on the same labels. The audit trains once on all
rows and reads the statistics kept for every row; confident learning trains five times on four
fifths, and ranks by its usual default (self-confidence) and by the normalised margin of the
held-out probabilities. Processor seconds include what follows the training. Finished cells are
kept in `benchmarks/one_run.json` and not run again; with `--again` their audits are, and the five
folds stay. The ledger of an audit, with the seconds of its training, is kept in `--ledgers` and
judged again without training.

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
from errata.data.samples import Samples, open_samples
from errata.detect import consensus, decide, default_detectors, estimate_rate
from errata.detect.score import find_label_errors
from errata.engine import Engine, fit
from errata.engine.crossfit import crossfit
from errata.engine.evaluate import planted_report, suspicion_auroc
from errata.engine.run import TrainingRun
from errata.engine.testing import mean_probabilities, test_accuracy, test_feed
from errata.job import TRACK
from errata.ledger import Ledger
from errata.machine import processor_name
from errata.measures import average_precision
from errata.methods import phases_named
from errata.observe import Observer
from errata.parts.base import stages_of_phases
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
    parser.add_argument("--again", action="store_true", help="audit finished cells again")
    parser.add_argument("--ledgers", type=Path, default=RESULTS.parent / ".cells" / "one_run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(asked.seeds):
        for name in CELLS:
            found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
            key = f"{name}, seed {seed}"
            if asked.only in name and (asked.again or key not in found):
                folds = found[key]["five_folds"] if key in found else None
                found[key] = run_cell(name, seed, asked.ledgers, folds)
                text = json.dumps(found, indent=1, sort_keys=True) + "\n"
                RESULTS.write_text(text, encoding="utf-8")
                print(key, json.dumps(found[key]), flush=True)


def run_cell(name: str, seed: int, ledgers: Path, folds: dict[str, Any] | None) -> dict[str, Any]:
    """Measure both on one data set; five folds that were measured before are not run again."""
    samples = _open(name, seed)
    truth, source = samples.truth, samples.source
    assert truth is not None, name
    wrong = (truth.clean != source.given)[truth.clean >= 0]
    audit = _audit(name, samples, seed, ledgers)
    folds = folds or _five_folds(name, samples, seed)
    best = max(folds["auroc_self-confidence"], folds["auroc_margin"])
    ratio = audit["cpu_s"] / folds["cpu_s"]
    return {
        "rows": len(source.given),
        "epochs": CELLS[name][-1],
        "wrong": round(float(wrong.mean()), 4),
        "audit": audit,
        "five_folds": folds,
        "cost_ratio": round(ratio, 3),
        "holds": {"auroc": bool(audit["auroc"] >= best - 0.001), "cost": bool(ratio <= 0.27)},
        "hardware": processor_name(),
        "threads": 1,
        "date": date.today().isoformat(),
    }


def _open(name: str, seed: int) -> Samples:
    spec, rows, noise, _, _ = CELLS[name]
    return open_samples(
        spec.format(data=data_folder()),
        limit=rows,
        noise=noise or None,
        column=None if noise else "worst_label",
        seed=seed,
    )


def _watched(
    name: str, samples: Samples, seed: int, ledgers: Path
) -> tuple[Ledger, dict[str, Any]]:
    """Train once, or take the ledger of that training, with its seconds and its test accuracy."""
    place = ledgers / f"{name.replace(' ', '_').replace(':', '_')}-{seed}"
    if not place.exists():
        start = time.process_time()
        run = _train(name, samples.source, seed, TRACK)
        facts = {"cpu_s": time.process_time() - start, "test_accuracy": _accuracy(run, samples)}
        place.parent.mkdir(parents=True, exist_ok=True)
        run.ledger.save(place)
        place.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    facts = json.loads(place.with_suffix(".json").read_text("utf-8"))
    ledger = Ledger.load(place)
    ledger.check(samples.source.ids, samples.source.given)
    return ledger, facts


def _audit(name: str, samples: Samples, seed: int, ledgers: Path) -> dict[str, Any]:
    """Train once, and judge every row."""
    ledger, facts = _watched(name, samples, seed, ledgers)
    start = time.process_time()
    each = [detector.score(ledger) for detector in default_detectors(ledger)]
    scores = consensus(each)
    rate = estimate_rate(ledger, scores)
    findings = decide(ledger, each, scores, rate)
    seconds = time.process_time() - start
    assert samples.truth is not None, name
    report = planted_report(
        samples.truth,
        samples.source.given,
        suspicion=scores.suspicion,
        flagged=findings.flagged,
        proposed=findings.proposed,
        rate=rate.estimate,
    )
    measures = ("auroc", "average_precision", "f1", "oracle_f1")
    return {
        **{key: round(report[key], 4) for key in measures},
        "rate": round(rate.estimate, 4),
        "cpu_s": round(facts["cpu_s"] + seconds, 1),
        "passes": 1,
        "test_accuracy": facts["test_accuracy"],
    }


def _five_folds(name: str, samples: Samples, seed: int) -> dict[str, Any]:
    """Train five times on four fifths, and rank by the held-out probabilities."""
    truth, source = samples.truth, samples.source
    assert truth is not None, name
    start = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        probs = crossfit(
            lambda part, _: _train(name, part, seed, ()),
            source,
            FOLDS,
            seed=seed,
            work=Path(work),
        )
    ranked = {
        way: find_label_errors(source.given, probs, score=way).suspicion
        for way in ("self-confidence", "margin")
    }
    seconds = time.process_time() - start
    aurocs = {way: suspicion_auroc(truth, source.given, each) for way, each in ranked.items()}
    return {
        **{f"auroc_{way}": round(float(each or 0), 4) for way, each in aurocs.items()},
        **{f"ap_{way}": _precision(each, truth.clean, source) for way, each in ranked.items()},
        "cpu_s": round(seconds, 1),
        "passes": FOLDS * (FOLDS - 1) / FOLDS,
    }


def _train(name: str, source: Source, seed: int, observers: tuple[Observer, ...]) -> TrainingRun:
    _, _, _, augment, epochs = CELLS[name]
    return fit(
        stages_of_phases(phases_named("erm"), epochs=epochs, batch=BATCH),
        source,
        model="conv",
        seed=seed,
        augment=Augment.parse(augment),
        engine=Engine(device="cpu"),
        observers=observers,
    )


def _accuracy(run: TrainingRun, samples: Samples) -> dict[str, float]:
    return {
        name: round(test_accuracy(mean_probabilities(run, test_feed(run, test)), test.given), 4)
        for name, test in samples.tests.items()
    }


def _precision(suspicion: np.ndarray, clean: np.ndarray, source: Source) -> float:
    known = (clean >= 0) & (source.given >= 0)
    wrong = (clean != source.given)[known]
    return round(average_precision(np.nan_to_num(suspicion[known], nan=-1.0), wrong), 4)


if __name__ == "__main__":
    main()
