"""How well pictures of no class are found, planted among digits with wrong labels.

    ERRATA_DATA=DIR python benchmarks/open_set.py

Digits with a fifth of the labels drawn again (`uniform:0.2`) and a tenth of the pictures replaced
(`open:0.1`): by their own pixels in random order, by Fashion-MNIST or by MNIST at 8 x 8 pixels.
Plain training of the net `mlp`, 20 epochs, seeds 0 and 1. The score reads the features of the last
layer and the averaged predictions of training (`errata.detect.open_set`); its form was chosen on
seeds 2000 to 2002. AUROC of pictures of no class against all other rows, against wrong labels
alone and against right labels alone, beside that of the suspicion that finds wrong labels; and the
share of rows above the bound from which no label is proposed. The bar, set before measuring: mean
AUROC against all other rows at least .95 for each kind of picture. Two minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from rate_interval import BATCH, EPOCHS, facts, train

from errata.data import open_source, plant_noise
from errata.data.open_set import OpenTruth
from errata.detect import consensus, default_detectors
from errata.detect.open_set import NO_CLASS, open_scores
from errata.detect.reading import averaged_probs
from errata.measures import auroc

SEEDS, BAR = range(2), 0.95


def specs() -> dict[str, str]:
    """Give every kind of replacement by name."""
    data = os.environ.get("ERRATA_DATA", "../shared/data")
    return {
        "shuffled": "open:0.1",
        "fashion-mnist": f"open:0.1,fashion-mnist:{data}/fashion_mnist",
        "mnist": f"open:0.1,mnist:{data}/mnist",
    }


def measure(spec: str, seed: int) -> dict[str, float]:
    """Train once and measure."""
    labels = plant_noise(open_source("digits", seed=seed).train, "uniform:0.2", seed=seed)
    planted = plant_noise(labels.source, spec, seed=seed, truth=labels.truth)
    assert isinstance(planted.truth, OpenTruth)
    source, is_open = planted.source, planted.truth.open
    run = train(source, model="mlp", epochs=EPOCHS, batch=BATCH, augment="none", seed=seed)
    probs = averaged_probs(run.ledger)
    assert probs is not None
    said = open_scores(run.sweep(0)[1], probs, source.given)
    assert said.values is not None
    wrong = ~is_open & (source.given != planted.truth.clean)
    right = ~is_open & ~wrong
    joined = consensus([each.score(run.ledger) for each in default_detectors(run.ledger)])
    above = said.values > NO_CLASS
    groups = {"all": ~is_open, "wrong": wrong, "right": right}
    found = {
        f"auroc_{name}": auroc(said.values[is_open | rows], is_open[is_open | rows])
        for name, rows in groups.items()
    }
    found["auroc_suspicion"] = auroc(joined.suspicion, is_open)
    shares = {"open": is_open, "wrong": wrong, "right": right}
    return found | {f"above_{name}": float(above[rows].mean()) for name, rows in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/open_set.json"))
    args = parser.parse_args()
    kinds: dict[str, Any] = {}
    for name, spec in specs().items():
        runs = []
        for seed in SEEDS:
            runs.append(measure(spec, seed))
            print(name, seed, json.dumps(runs[-1]), flush=True)
        kinds[name] = {
            key: round(float(np.mean([run[key] for run in runs])), 4) for key in runs[0]
        } | {"worst_auroc_all": round(min(run["auroc_all"] for run in runs), 4)}
    document = {
        "bar": BAR,
        "passed": {name: found["auroc_all"] >= BAR for name, found in kinds.items()},
        "kinds": kinds,
        "seeds": list(SEEDS),
        **facts(),
    }
    args.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
