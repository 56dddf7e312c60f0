"""SMP on few rows with good features: a linear head on a net that was trained on other images.

    ERRATA_DATA=DIR python benchmarks/smp_frozen.py [--cache DIR] [--json FILE]

DIR holds `fashion_mnist/`. A net is trained for one epoch on images 20,000 to 50,000 of
Fashion-MNIST with their true labels and stands for a pretrained one. Its features of the first 500
or 2,000 images, 40 % of whose labels are wrong, are all that a linear head learns from: 100 or 60
epochs from .02, by plain training, `gce`, SMP with the values of its paper, and SMP with the
settings that its card recommends from scratch. Features are frozen, so that labels are corrected
once and for all. Accuracy is that on all test images, the mean of three seeds of the noise and the
training.

Bar, stated before the seeds 1 and 2 were run: SMP with one of its two settings is more accurate
than plain training, by more than the standard deviation over seeds of either, in at least one of
the four cells. Finished runs are kept, so that the command goes on where it stopped. Two minutes
on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import errata
from errata.data import Arrays, Augment, Subset, open_source, plant_noise
from errata.engine import fit
from errata.engine.evaluate import label_report
from errata.machine import processor_name
from errata.methods import recipe_named
from errata.parts.base import OptimizerSpec, Part, Recipe, Stage, register_part
from errata.parts.prototypes import SMP
from errata.types import Run

CLASSES = 10
EPOCHS = {500: 100, 2_000: 60}
NOISES = ("asymmetric:0.4", "uniform:0.4")
SEEDS = (0, 1, 2)
PAPER, OURS = "smp", "smp, centred, percentile 60, margin 0.2, alpha 1"
RECIPES = {
    "erm": Recipe(),
    PAPER: recipe_named("smp"),
    OURS: Recipe(parts=(SMP(center=True, sc_percentile=60.0, margin=0.2, alpha=1.0),)),
    "gce": recipe_named("gce"),
}


class Head(nn.Module):
    """A linear layer that starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, CLASSES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.head(x)


@register_part("features-before")
@dataclass(kw_only=True)
class FeaturesBefore(Part):
    """Keeps the features of all rows before training changes the net."""

    def setup(self, run: Run) -> None:
        """Look once."""
        found = run.sweep(0)[1]
        assert found is not None
        run.memory["features"] = found.float().cpu().clone()


def features_of(cache: Path | None, *, rows: int) -> dict[str, np.ndarray]:
    """Give the features and true labels of the first rows and of the test images."""
    if cache is not None and cache.exists():
        return dict(np.load(cache))
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    opened = open_source(f"fashion-mnist:{data}/fashion_mnist")
    others = Subset(opened.train, np.arange(20_000, 50_000))
    net = fit((Stage(epochs=1),), others, model="conv", augment=Augment.parse("flip")).nets[0].body
    told = {}
    first = Subset(opened.train, np.arange(rows))
    for name, source in (("train", first), ("test", opened.tests["test"])):
        look = Stage(epochs=1, recipe=Recipe(parts=(FeaturesBefore(),)))
        run = fit((look,), source, model=partial(copy.deepcopy, net))
        told[f"{name}_x"] = run.memory["features"].numpy()
        told[f"{name}_y"] = np.asarray(source.given)
    if cache is not None:
        np.savez(cache, **told)
    return told


def trained(found: dict[str, np.ndarray], rows: int, noise: str, recipe: str, seed: int) -> Any:
    """Train a head and measure it."""
    names = [str(label) for label in range(CLASSES)]
    clean = Arrays(found["train_x"][:rows], found["train_y"][:rows], classes=names, name="rows")
    test = Arrays(found["test_x"], found["test_y"], classes=names, name="test")
    planted = plant_noise(clean, noise, seed=seed)
    stage = Stage(recipe=RECIPES[recipe], epochs=EPOCHS[rows], optimizer=OptimizerSpec(lr=0.02))
    run = fit(
        (stage,),
        planted.source,
        model=lambda: Head(clean.shape[0]),
        seed=seed,
        tests={"test": test},
        test_every=EPOCHS[rows],
    )
    labels = label_report(planted.truth, run.ledger)
    return {
        "accuracy": round(run.history[-1]["test"]["test"], 4),
        "labels": labels and {name: round(value, 4) for name, value in labels.items()},
    }


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """Give mean and standard deviation over seeds of each cell, and whether the bar is met."""
    told: dict[str, Any] = {}
    met = False
    for rows, noise in product(EPOCHS, NOISES):
        cell = {}
        for recipe in RECIPES:
            keys = [f"{rows}/{noise}/{recipe}/{seed}" for seed in SEEDS]
            values = [runs[key]["accuracy"] for key in keys if key in runs]
            if len(values) == len(SEEDS):
                mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
                cell[recipe] = {"mean": round(mean, 4), "spread": round(spread, 4)}
        told[f"{rows}/{noise}"] = cell
        for ours in (PAPER, OURS):
            if ours in cell and "erm" in cell:
                gained = cell[ours]["mean"] - cell["erm"]["mean"]
                met |= gained > max(cell[ours]["spread"], cell["erm"]["spread"])
    return {"cells": told, "bar_met": bool(met)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/smp_frozen.json"))
    parser.add_argument("--cache", type=Path, help="an npz file that keeps the features")
    args = parser.parse_args()
    told = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    runs = told.get("runs", {})
    found = features_of(args.cache, rows=max(EPOCHS))
    for rows, noise, recipe, seed in product(EPOCHS, NOISES, RECIPES, SEEDS):
        key = f"{rows}/{noise}/{recipe}/{seed}"
        if key in runs:
            continue
        runs[key] = trained(found, rows, noise, recipe, seed)
        print(key, runs[key], flush=True)
        told = {
            **summary(runs),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": processor_name(),
            "runs": runs,
            "versions": {"errata": errata.__version__, "torch": torch.__version__},
        }
        args.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
