"""The sweeps of the SMP paper on a small net: candidates, prototypes, alpha, selection, controls.

    ERRATA_DATA=DIR python benchmarks/smp_sweeps.py [--cache FILE] [--json FILE] [--noise SPEC]

DIR holds `fashion_mnist/`. A net is trained for one epoch on images 20,000 to 50,000 of
Fashion-MNIST with their true labels and stands for a pretrained one. A net with one hidden layer,
whose outputs are the features of SMP, learns from its features of the first 5,000 images, 40 % of
whose labels are wrong, for 20 epochs from .1. In the settings ``+verified``, the labels of a
quarter of the rows, drawn at random, were judged right or wrong, and candidates are rows judged
right. For each setting: the share of right labels as given, after the first correction and after
the last (tables 2 and 3 of the paper), and the test accuracy in the end. One value is changed at a
time, from those of the paper; but candidates are all of a class. One seed, so differences of a
point mean little. Finished runs are kept, so that the command goes on where it stopped. Five
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, versions
from smp_frozen import features_of
from torch import Tensor, nn

from errata.data import Arrays, Planted, plant_noise
from errata.engine import TrainingRun, fit
from errata.engine.evaluate import label_report, verify_rows
from errata.parts.base import OptimizerSpec, Recipe, Stage
from errata.parts.prototypes import SMP
from errata.streams import numpy_generator

ROWS, EPOCHS, CLASSES = 5_000, 20, 10
NOISES = ("uniform:0.4", "asymmetric:0.4")
SEED = 0
JUDGED = 0.25
"""Share of the rows that were verified; about 75 of a class were then judged right."""


class Small(nn.Module):
    """One hidden layer and a linear head."""

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, 128), nn.ReLU())
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.head(self.hidden(x))


@dataclass(frozen=True)
class Setting:
    """Values that differ from the paper's, and whether verified rows are given; `erm` if None."""

    values: dict[str, Any] | None = field(default_factory=dict)
    verified: bool = False


def settings() -> dict[str, Setting]:
    """List every setting by name."""
    found = {"erm": Setting(None), "smp": Setting(), "smp+verified": Setting(verified=True)}

    def add(name: str, **values: Any) -> None:
        found[f"smp {name}"] = Setting(values)

    for verified, m in product((False, True), (20, 40, 80)):
        name = f"smp m {m}" + "+verified" * verified
        found[name] = Setting({"m": m}, verified=verified)
    for verified, select in product((False, True), ("kmeans++", "density_peak_euclidean")):
        found[f"smp {select}" + "+verified" * verified] = Setting({"select": select}, verified)
    add("densest, without eta", select="densest")
    for p in (1, 2, 4, 16, 32):
        add(f"p {p}", p=p)
    for alpha in (0.25, 0.75, 1.0):
        add(f"alpha {alpha:g}", alpha=alpha)
    add("maximum", scores="max")
    for percentile in (20.0, 60.0, 80.0):
        add(f"percentile {percentile:g}", sc_percentile=percentile)
    add("centred", center=True)
    add("centred, percentile 60", center=True, sc_percentile=60.0)
    ours: dict[str, Any] = {"center": True, "sc_percentile": 60.0, "margin": 0.2}
    add("centred, percentile 60, margin 0.2", **ours)
    add("centred, percentile 60, margin 0.2, alpha 1", **ours, alpha=1.0)
    return found


def planted_rows(found: dict[str, np.ndarray], noise: str) -> tuple[Planted, Arrays]:
    """Give the training rows with wrong labels, and the test rows."""
    names = [str(label) for label in range(CLASSES)]
    clean = Arrays(found["train_x"][:ROWS], found["train_y"][:ROWS], classes=names, name="rows")
    test = Arrays(found["test_x"], found["test_y"], classes=names, name="test")
    return plant_noise(clean, noise, seed=SEED), test


def trained(found: dict[str, np.ndarray], noise: str, setting: Setting) -> dict[str, Any]:
    """Train with a setting and measure labels and net."""
    planted, test = planted_rows(found, noise)
    judged = None
    if setting.verified:
        rng = numpy_generator(SEED, "benchmark", "verified")
        known = verify_rows(planted.truth, planted.source.given, share=JUDGED, rng=rng)
        judged = torch.from_numpy(known)
    parts = () if setting.values is None else (SMP(**setting.values),)
    stage = Stage(recipe=Recipe(parts=parts), epochs=EPOCHS, optimizer=OptimizerSpec(lr=0.1))
    run: TrainingRun = fit(
        (stage,),
        planted.source,
        model=lambda: Small(found["train_x"].shape[1]),
        seed=SEED,
        tests={"test": test},
        test_every=EPOCHS,
        verified=judged,
    )
    labels = label_report(planted.truth, run.ledger)
    return {
        "accuracy": round(run.history[-1]["test"]["test"], 4),
        "labels": labels and {name: round(value, 4) for name, value in labels.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/smp_sweeps.json"))
    parser.add_argument("--cache", type=Path, help="an npz file that keeps the features")
    parser.add_argument("--noise", choices=NOISES, nargs="*", default=NOISES[:1])
    args = parser.parse_args()
    told = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    runs: dict[str, Any] = told.get("runs", {})
    found = features_of(args.cache, rows=ROWS)
    for noise, (name, setting) in product(args.noise, settings().items()):
        if name in runs.setdefault(noise, {}):
            continue
        runs[noise][name] = trained(found, noise, setting)
        print(noise, name, runs[noise][name], flush=True)
        told = {
            **made(),
            "epochs": EPOCHS,
            "judged": JUDGED,
            "rows": ROWS,
            "runs": runs,
            "seed": SEED,
            "versions": versions("errata", "numpy", "torch"),
        }
        args.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
