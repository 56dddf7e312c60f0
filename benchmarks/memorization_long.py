"""Are random labels learned by heart in the end, whatever the brake? Long trainings of few images.

    ERRATA_DATA=DIR python benchmarks/memorization_long.py

The suite `memorization` stops after 30 epochs, when plain training has learned about half of the
random labels, and it counts what was predicted while training, with dropout and augmentation on.
Zhang et al. 2017 trained to the end. So this takes the suite's protocol and its brakes with
cross-entropy, 1,000 images and 100 epochs, and counts at the end, in evaluation mode, on images as
they are. DIR holds `fashion_mnist/`. Finished trainings are kept in
`benchmarks/memorization_long.json`, so that the command goes on where it stopped; each takes about
a minute on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, today, versions

from errata.bench.opening import open_cell
from errata.bench.suites import Cell, Suite, suite_named
from errata.bench.variants import model_of, program_of_variant
from errata.data import Augment
from errata.engine import Engine, fit
from errata.observe import Track

# Written down before anything was measured.
BY_HEART = 0.95
"""Labels count as learned by heart where at least this share of the wrong ones is predicted."""

ROWS, EPOCHS, SEED = 1_000, 100, 0
CELLS = (
    *(("uniform:1", brake) for brake in ("plain", "all", "augment")),
    *(("uniform:0.4", brake) for brake in ("plain", "augment", "all")),
    *(("uniform:1", brake) for brake in ("dropout", "decay")),
)
"""In the order of what they answer, should time run out."""
RESULTS = Path("benchmarks/memorization_long.json")


def measure(suite: Suite, noise: str, brake: str) -> dict[str, Any]:
    """Train to the end, and say which share of right and of wrong labels the net predicts."""
    cell = Cell(f"ce@{brake}", noise, SEED)
    opened, variant = open_cell(suite, cell), suite.variant(cell.recipe)
    source, truth = opened.planted.source, opened.planted.truth
    run = fit(
        program_of_variant(suite, variant),
        source,
        model=model_of(suite.model, variant.dropout, source.shape, len(source.classes)),
        seed=SEED,
        augment=Augment.parse(variant.augment or suite.augment),
        engine=Engine(device="cpu"),
        observers=(Track(),),
        tests=opened.tests,
        test_every=suite.evaluate,
    )
    learned = run.sweep(0)[0].argmax(1).cpu().numpy() == source.given
    wrong = np.asarray(source.given != truth.clean)
    agreement = [record["train_agreement"] for record in run.history]
    return {
        "wrong": round(float(wrong.mean()), 4),
        "fit_wrong": round(float(learned[wrong].mean()), 4),
        "fit_right": round(float(learned[~wrong].mean()), 4),
        "agreement_in_training": [round(share, 4) for share in agreement[9::10]],
        "test_accuracy": run.history[-1]["test"]["test"],
        "by_heart": bool(learned[wrong].mean() >= BY_HEART),
        "cpu_seconds": round(run.cpu_seconds, 1),
        "date": today(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    suite = replace(
        suite_named("memorization"), limit=ROWS, epochs=args.epochs, evaluate=args.epochs
    )
    told: dict[str, Any] = {
        "bar": BY_HEART,
        "cells": {},
        "epochs": args.epochs,
        **made(),
        "rows": ROWS,
        "seed": SEED,
        "versions": versions("errata", "torch"),
    }
    if args.json.exists():
        told["cells"] = json.loads(args.json.read_text("utf-8"))["cells"]
    for noise, brake in CELLS:
        name = f"{brake}/{noise}"
        if name not in told["cells"]:
            told["cells"][name] = measure(suite, noise, brake)
            args.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")
        print(name, told["cells"][name], flush=True)


if __name__ == "__main__":
    main()
