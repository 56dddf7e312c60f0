"""The terms of joint optimisation on a small net: entropy, prior, hard labels, many classes.

    ERRATA_DATA=DIR python benchmarks/joint_terms.py [--cache FILE] [--json FILE] [--data NAME]

`features`: the rows, the wrong labels (40 %, uniform) and the net of `smp_sweeps.py`. `many`: 200
classes of 25 rows, normal clouds in 32 dimensions, 1.5 times as wide as their centres scatter, with
40 % of the labels wrong, and as many rows for the test; a batch of 128 rows has fewer rows than
there are classes. A net with one hidden layer learns for 18 and 12 epochs, labels are replaced from
the tenth on. For each setting: the share of right labels as given, after the first and after the
last update; the shares of labels that moved in the last update (`moving`) and of those with a class
above .99 (`onehot`); and the test accuracy of the fresh net. One seed. Finished runs are kept, so
that the command goes on where it stopped. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from provenance import made, versions
from smp_frozen import features_of
from smp_sweeps import ROWS, SEED, Small, planted_rows

from errata.bench.suites.base import Suite, Variant
from errata.bench.variants import program_of_variant
from errata.data import Arrays, Planted, plant_noise
from errata.engine import fit
from errata.engine.evaluate import label_report
from errata.streams import numpy_generator

EPOCHS, NOISE = 30, "uniform:0.4"
CLASSES, OF_EACH, WIDTH, SPREAD = 200, 25, 32, 1.5


def settings(data: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """List every setting by name: the recipe, and what is changed about the part `joint`."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {
        "erm": ("erm", ()),
        "joint": ("joint", ()),
        "no prior": ("joint", ("alpha=0.0",)),
    }
    if data == "many":
        return found | {
            "moving mean .9": ("joint", ("moving=0.9",)),
            "moving mean .99": ("joint", ("moving=0.99",)),
            "balanced": ("joint", ("balanced=true",)),
            "no entropy": ("joint", ("beta=0.0",)),
        }
    return found | {
        "no entropy": ("joint", ("beta=0.0",)),
        "neither": ("joint", ("alpha=0.0", "beta=0.0")),
        "hard": ("joint-hard", ()),
        "reverse": ("joint", ("divergence=reverse",)),
        "symmetric": ("joint", ("divergence=symmetric",)),
        "uniform prior": ("joint", ("prior=uniform",)),
        "ask fitted": ("joint", ("ask_fitted=true",)),
    }


def clouds() -> tuple[Planted, Arrays]:
    """Give rows of many classes with wrong labels, and as many for the test."""
    rng = numpy_generator(SEED, "benchmark", "clouds")
    centres = rng.normal(size=(CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), OF_EACH)
    names = [str(label) for label in range(CLASSES)]
    train, test = (
        Arrays(
            (centres[labels] + SPREAD * rng.normal(size=(len(labels), WIDTH))).astype(np.float32),
            labels,
            classes=names,
            name=name,
        )
        for name in ("train", "test")
    )
    return plant_noise(train, NOISE, seed=SEED), test


def trained(rows: tuple[Planted, Arrays], recipe: str, changes: tuple[str, ...]) -> dict[str, Any]:
    """Train with a setting and measure labels and net."""
    planted, test = rows
    suite = Suite(name="terms", summary="", source="", epochs=EPOCHS, batch=128)
    texts = tuple(f"stage.parts.joint.{change}" for change in changes)
    if "balanced=true" in changes:
        texts += ("stage.parts.use-labels.balanced=true",)
    program = program_of_variant(suite, Variant(recipe=recipe, changes=texts))
    shape, classes = planted.source.shape, len(planted.source.classes)
    run = fit(
        program,
        planted.source,
        model=lambda: Small(shape[0], classes),
        seed=SEED,
        tests={"test": test},
        test_every=EPOCHS,
    )
    labels = label_report(planted.truth, run.ledger)
    notes = run.notes.get("joint", {})
    return {
        "accuracy": round(run.history[-1]["test"]["test"], 4),
        "labels": labels and {name: round(value, 4) for name, value in labels.items()},
        "moving": round(notes["share_moving"], 4) if notes else None,
        "onehot": round(notes["share_onehot"], 4) if notes else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/joint_terms.json"))
    parser.add_argument("--cache", type=Path, help="an npz file that keeps the features")
    parser.add_argument("--data", choices=("features", "many"), nargs="*", default=())
    args = parser.parse_args()
    told = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    runs: dict[str, Any] = told.get("runs", {})
    for data in args.data or ("features", "many"):
        if data == "many":
            rows = clouds()
        else:
            rows = planted_rows(features_of(args.cache, rows=ROWS), NOISE)
        done = runs.setdefault(data, {})
        for name, (recipe, changes) in settings(data).items():
            if name in done:
                continue
            done[name] = trained(rows, recipe, changes)
            print(data, name, done[name], flush=True)
            told = {
                **made(),
                "epochs": EPOCHS,
                "noise": NOISE,
                "runs": runs,
                "seed": SEED,
                "versions": versions("errata", "numpy", "torch"),
            }
            args.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
