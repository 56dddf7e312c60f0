"""How near predictions come to what people say of the same pictures, per recipe.

    ERRATA_DATA=DIR python benchmarks/distributions.py [--only RECIPE]

DIR holds `cifar10/`, `cifar10n/` and `cifar10h/`. Each recipe trains the small net on the first
10,000 images of CIFAR-10 with the worst labels of CIFAR-10N, and predicts the 10,000 test images,
each of which about 51 people have labelled (CIFAR-10H). Measured against the distribution of their
votes: cross-entropy [nats] and total variation, of the net as it is and after a temperature fitted
to noisy labels of 2,000 further training images. For comparison the same of people themselves (the
entropy of the votes) and of a guess. One seed. Finished recipes are kept in
`benchmarks/distributions.json` and not run again; four minutes of one core each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made

from errata.bench.suites import data_folder
from errata.confidence import fit_calibration
from errata.data import Augment, Subset
from errata.data.samples import open_samples
from errata.engine import Engine, fit
from errata.engine.testing import mean_probabilities, test_feed
from errata.methods import phases_named
from errata.parts.base import stages_of_phases

RESULTS = Path(__file__).with_suffix(".json")
ROWS, HELD, EPOCHS, BATCH, SEED = 10_000, 2_000, 20, 128, 0
RECIPES = ("erm", "gce", "mixup", "odd+mixup", "label-smoothing", "sce", "forward-learned", "mae")


def nearness(probs: np.ndarray, votes: np.ndarray) -> dict[str, float]:
    """Compare predictions [N, C] with distributions of votes [N, C]."""
    cross = -(votes * np.log(np.maximum(probs, 1e-12))).sum(1).mean()
    total = np.abs(probs - votes).sum(1).mean() / 2
    return {"cross_entropy": round(float(cross), 4), "total_variation": round(float(total), 4)}


def run_recipe(name: str, votes: np.ndarray) -> dict[str, Any]:
    """Train by one recipe and measure."""
    spec = f"cifar10n:{data_folder()}/cifar10n"
    samples = open_samples(spec, limit=ROWS + HELD, column="worst_label", seed=SEED)
    rows = np.arange(len(samples.source.ids))
    held, (test,) = Subset(samples.source, rows[ROWS:]), samples.tests.values()
    run = fit(
        stages_of_phases(phases_named(name), epochs=EPOCHS, batch=BATCH),
        Subset(samples.source, rows[:ROWS]),
        model="conv",
        seed=SEED,
        augment=Augment.parse("flip,crop:4"),
        engine=Engine(device="cpu"),
    )
    raw = mean_probabilities(run, test_feed(run, test))
    calibration = fit_calibration(mean_probabilities(run, test_feed(run, held)), held.given)
    assert calibration is not None, "2,000 rows are enough"
    return {
        "accuracy": round(float((raw.argmax(1) == test.given).mean()), 4),
        "as it is": nearness(raw, votes),
        "calibrated": nearness(calibration.probs(raw), votes),
        "temperature": round(calibration.temperature, 3),
        "noise_rate_found": round(calibration.noise_rate, 3),
        "cpu_s": round(run.cpu_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    votes = np.load(data_folder() / "cifar10h" / "cifar10h-probs.npy", allow_pickle=False)
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"recipes": {}}
    found |= {
        "people": nearness(votes, votes),
        "guess": nearness(np.full_like(votes, 0.1), votes),
        "epochs": EPOCHS,
        "rows": ROWS,
        "seed": SEED,
        **made(),
    }
    for name in RECIPES:
        if asked.only in name and name not in found["recipes"]:
            found["recipes"][name] = run_recipe(name, votes)
            text = json.dumps(found, indent=1, sort_keys=True) + "\n"
            RESULTS.write_text(text, encoding="utf-8")
            print(name, json.dumps(found["recipes"][name]), flush=True)


if __name__ == "__main__":
    main()
