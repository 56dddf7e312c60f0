"""How often the interval of the noise rate covers the truth, on planted runs.

    python benchmarks/rate_interval.py [--work DIR] [--train-only] [--only CELL]

Digits, trained as `errata audit` trains them by default (20 epochs, batches of 32), in cells of one
model and one recipe. Five kinds of noise in turn (uniform, asymmetric, one rate per class,
instance, none), rates drawn between .02 and .45 by the seed. Seeds 0 and up are the test: 50 of
them for plain training of `mlp`, 10 for the other cells. Seeds 1000 and up are those that the width
of the interval may be fitted on (`errata.detect.rate`), and count for nothing. Every ledger is kept
in `--work` and used again, so an interrupted run goes on; `--only` measures one cell and keeps what
is written of the others. The bar, set before measuring: at least .9 of the test runs of every cell.
Numbers go to `benchmarks/rate_interval.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, versions

from errata.data import Augment, open_source, plant_noise
from errata.detect import estimate_rate
from errata.engine import Engine, TrainingRun, fit
from errata.job import TRACK
from errata.ledger import Ledger, standard
from errata.methods import phases_named
from errata.parts.base import stages_of_phases
from errata.types import Source

KINDS = ("uniform", "asymmetric", "per-class", "instance", "none")
PLAIN = "mlp-erm"
CELLS = {
    PLAIN: (50, 20),
    "conv-odd+mixup": (10, 6),
    "mlp-odd+mixup": (10, 10),
}
"""Model and recipe: how many runs test, and how many develop."""
TEST = range(CELLS[PLAIN][0])
LEAST, MOST, EPOCHS, BATCH, BAR = 0.02, 0.45, 20, 32, 0.9


def noise_of(seed: int) -> str:
    """Draw the noise of one run."""
    rng = np.random.default_rng([seed, 5])
    kind = KINDS[seed % len(KINDS)]
    if kind == "none":
        return "uniform:0"
    if kind == "per-class":
        return "per-class:" + ",".join(f"{rate:.3f}" for rate in rng.uniform(0, MOST, 10))
    return f"{kind}:{rng.uniform(LEAST, MOST):.3f}"


def train(
    source: Source,
    *,
    model: str,
    epochs: int,
    batch: int,
    augment: str,
    seed: int,
    recipe: str = "erm",
) -> TrainingRun:
    """Train by a recipe, and look at every row once more, as an audit does."""
    run = fit(
        stages_of_phases(phases_named(recipe), epochs=epochs, batch=batch),
        source,
        model=model,
        seed=seed,
        augment=Augment.parse(augment),
        engine=Engine(threads=1),
        observers=TRACK,
    )
    run.ledger.add("audit", standard("final_prob", shape=(run.classes,)))
    probs = torch.stack([run.sweep(k)[0].softmax(1) for k in range(len(run.nets))]).mean(0)
    run.ledger.write("final_prob", torch.arange(run.num_rows), probs, stamp=run.tick)
    return run


def ledger_of(place: Path, source: Source, **how: Any) -> Ledger:
    """Give the ledger of a training, made once."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        train(source, **how).ledger.save(place)
    ledger = Ledger.load(place)
    ledger.check(source.ids, source.given)
    return ledger


def run_of(seed: int, work: Path, cell: str = PLAIN) -> tuple[Ledger, np.ndarray, str]:
    """Give the ledger of one run, its true classes [N], and its noise."""
    model, _, recipe = cell.partition("-")
    noise = noise_of(seed)
    planted = plant_noise(open_source("digits", seed=seed).train, noise, seed=seed)
    how: dict[str, Any] = {"epochs": EPOCHS, "batch": BATCH, "augment": "none", "seed": seed}
    place = work / (f"digits-{seed}" if cell == PLAIN else f"{cell}-{seed}")
    ledger = ledger_of(place, planted.source, model=model, recipe=recipe, **how)
    return ledger, planted.truth.clean, noise


def measure(cell: str, seed: int, work: Path) -> dict[str, Any]:
    """Compare the interval of one run with the truth."""
    ledger, truth, noise = run_of(seed, work, cell)
    rate = float((ledger.given.cpu().numpy() != truth).mean())
    found = estimate_rate(ledger)
    return {
        "seed": seed,
        "kind": KINDS[seed % len(KINDS)],
        "noise": noise,
        "truth": round(rate, 4),
        "estimate": round(found.estimate, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "covered": bool(found.low <= rate <= found.high),
        "method": found.method,
    }


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up runs: coverage, width of the interval, error of the estimate."""
    widths = [run["high"] - run["low"] for run in runs]
    errors = [abs(run["estimate"] - run["truth"]) for run in runs]
    return {
        "runs": len(runs),
        "coverage": round(float(np.mean([run["covered"] for run in runs])), 4),
        "mean_width": round(float(np.mean(widths)), 4),
        "mean_error": round(float(np.mean(errors)), 4),
    }


def facts() -> dict[str, Any]:
    """Say when, where and with what the numbers were made."""
    used = versions("errata", "numpy", "torch")
    return {**made(), "versions": {**used, "python": platform.python_version()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("rate-runs"))
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--only", choices=tuple(CELLS))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/rate_interval.json"))
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for cell, (tests, developing) in CELLS.items():
        if args.only not in (None, cell):
            continue
        found[cell] = {}
        groups = {"development": range(1000, 1000 + developing), "test": range(tests)}
        for group, seeds in groups.items():
            if args.train_only:
                for seed in seeds:
                    run_of(seed, args.work, cell)
                    print(cell, group, seed, flush=True)
                continue
            runs = []
            for seed in seeds:
                runs.append(measure(cell, seed, args.work))
                print(cell, json.dumps(runs[-1]), flush=True)
            kinds = {kind: told([run for run in runs if run["kind"] == kind]) for kind in KINDS}
            found[cell][group] = {"all": told(runs), "runs": runs, **kinds}
            print(cell, group, json.dumps(found[cell][group]["all"]), flush=True)
    if args.train_only:
        return
    if args.only:
        found = {**json.loads(args.json.read_text("utf-8"))["cells"], **found}
    passed = {cell: each["test"]["all"]["coverage"] >= BAR for cell, each in found.items()}
    document = {"bar": BAR, "passed": passed, "cells": found, **facts()}
    args.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
