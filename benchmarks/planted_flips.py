"""Whether labels that errata flips itself would tell the noise rate better than what it has.

    python benchmarks/planted_flips.py [--work DIR]

Digits, net `mlp`, noise as in `rate_interval.py`, seeds 1000 to 1004 (one of each kind). Every
training is made twice: as it is, and with 4 % of the given labels (at least 60) flipped to a random
other class, which training takes for given. Flipped rows show how wrong labels look that were
trained on: the estimate is the share of the other rows whose averaged margin lies below the upper
quartile of the flipped ones, over three quarters (Storey 2002, with a known null). Compared are the
error of the rate, the width that chance alone gives the interval, and test accuracy. The bar, set
before measuring: the flips are used by default if test accuracy falls by no more than .005 and the
mean error of the rate is below that of `estimate_rate`. Numbers go to
`benchmarks/planted_flips.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rate_interval import BATCH, KINDS, facts, noise_of, train

from errata.data import open_source, plant_noise
from errata.data.wrap import Relabelled
from errata.detect import estimate_rate
from errata.detect.reading import column, mean_per_view
from errata.engine.testing import mean_probabilities, test_accuracy, test_feed
from errata.ledger import Ledger
from errata.streams import numpy_generator
from errata.types import Source

CELLS = {"erm": 20, "odd+mixup": 20, "erm, 2 epochs": 2}
"""Recipe and epochs."""
SEEDS = range(1000, 1005)
SHARE, LEAST, QUANTILE, WORSE = 0.04, 60, 0.75, 0.005


def flipped(source: Source, seed: int) -> Source:
    """Give a few rows another class at random."""
    rng = numpy_generator(seed, "planted")
    known = np.flatnonzero(source.given >= 0)
    rows = rng.choice(known, max(LEAST, round(SHARE * len(known))), replace=False)
    rows, classes = np.sort(rows), len(source.classes)
    given = source.given.copy()
    given[rows] = (given[rows] + rng.integers(1, classes, len(rows))) % classes
    return Relabelled(source, given)


def trained(place: Path, source: Source, test: Source, cell: str, seed: int) -> tuple[Ledger, Any]:
    """Give the ledger of a training and its test accuracy; made once."""
    told = place / "accuracy.json"
    if not told.exists():
        recipe = cell.split(",", maxsplit=1)[0]
        run = train(
            source,
            model="mlp",
            epochs=CELLS[cell],
            batch=BATCH,
            augment="none",
            seed=seed,
            recipe=recipe,
        )
        accuracy = test_accuracy(mean_probabilities(run, test_feed(run, test)), test.given)
        place.parent.mkdir(parents=True, exist_ok=True)
        run.ledger.save(place)
        told.write_text(json.dumps(accuracy), "utf-8")
    ledger = Ledger.load(place)
    ledger.check(source.ids, source.given)
    return ledger, json.loads(told.read_text("utf-8"))


def rate_of_flips(ledger: Ledger, planted: np.ndarray) -> float:
    """Estimate the rate among the other rows by where the flipped rows [N] bool lie."""
    margins = mean_per_view(column(ledger, "margin_sum"), column(ledger, "times_seen"))
    limit = np.nanquantile(margins[planted], QUANTILE)
    return float((margins[~planted] < limit).mean() / QUANTILE)


def measure(cell: str, seed: int, work: Path) -> dict[str, Any]:
    """Compare both trainings of one seed."""
    found = open_source("digits", seed=seed)
    noisy = plant_noise(found.train, noise_of(seed), seed=seed)
    source, test = noisy.source, next(iter(found.tests.values()))
    other = flipped(source, seed)
    planted = other.given != source.given
    name = f"{cell.replace(', ', '-').replace(' ', '')}-{seed}"
    plain, before = trained(work / f"{name}-plain", source, test, cell, seed)
    ledger, after = trained(work / f"{name}-flipped", other, test, cell, seed)
    wrong = source.given != noisy.truth.clean
    own, flips = estimate_rate(plain), rate_of_flips(ledger, planted)
    chance = np.sqrt((1 - QUANTILE) / (QUANTILE * planted.sum()))
    return {
        "kind": KINDS[seed % len(KINDS)],
        "truth": round(float(wrong.mean()), 4),
        "estimate": round(own.estimate, 4),
        "error": round(abs(own.estimate - float(wrong.mean())), 4),
        "width": round(own.high - own.low, 4),
        "flips": round(flips, 4),
        "flips_error": round(abs(flips - float(wrong[~planted].mean())), 4),
        "flips_width_of_chance": round(2 * 1.96 * flips * float(chance), 4),
        "accuracy": round(before, 4),
        "flips_accuracy": round(after, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("flip-runs"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/planted_flips.json"))
    args = parser.parse_args()
    cells: dict[str, Any] = {}
    for cell in CELLS:
        runs = []
        for seed in SEEDS:
            runs.append({"seed": seed, **measure(cell, seed, args.work)})
            print(cell, json.dumps(runs[-1]), flush=True)
        names = [n for n in runs[0] if n.endswith(("error", "accuracy")) or "width" in n]
        mean = {n: round(float(np.mean([run[n] for run in runs])), 4) for n in names}
        kept = mean["flips_accuracy"] >= mean["accuracy"] - WORSE
        passed = bool(kept and mean["flips_error"] < mean["error"])
        cells[cell] = {"mean": mean, "runs": runs, "passed": passed}
    args.json.write_text(
        json.dumps({"cells": cells, **facts()}, indent=1, sort_keys=True) + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
