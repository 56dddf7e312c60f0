"""What correcting N labels by prototypes costs, against the bare product of features and classes.

    python benchmarks/relabel_cost.py [--rounds 40] [--threads 1] [--json FILE]

Bare is ``features @ prototypes.T``, [N, D] x [D, C], which any method with one vector per class
needs. Ours is that product with the mean of the prototypes, the lengths of the features, the best
class, and its lead over the given one. Maximum is the variant that keeps all 8 prototypes of a
class apart. All take turns in an order drawn anew every round, each after one untimed call, so
that none pays for the memory that another has left behind. Times are the 10th percentile over
rounds, which other programs on the machine disturb little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from provenance import made, versions

from errata.features.prototypes import (
    best_scores,
    class_scores,
    correct_labels,
    mean_prototypes,
)

# Rows, feature width, classes: Fashion-MNIST with `conv`, a ResNet-18, a ResNet-50 on Clothing1M.
SIZES = ((10_000, 128, 10), (50_000, 512, 10), (50_000, 512, 100), (20_000, 2048, 14))
PROTOTYPES = 8
BOUND = 1.5
"""Most that ours may cost, in bare products."""


def contestants(num_rows: int, width: int, classes: int) -> dict[str, Callable[[], object]]:
    """Give what is timed, on rectified random features."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(num_rows, width))).float().relu_()
    given = torch.from_numpy(rng.integers(0, classes, num_rows))
    rows = torch.from_numpy(rng.permutation(num_rows)[: classes * PROTOTYPES])
    rows = rows.reshape(classes, PROTOTYPES)
    means = mean_prototypes(features, rows)
    return {
        "bare": lambda: features @ means.T,
        "ours": lambda: correct_labels(class_scores(features, means), given),
        "maximum": lambda: correct_labels(best_scores(features, rows), given),
    }


def measure(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Give the 10th percentile [s] of each contestant over rounds in which all take turns."""
    rng = np.random.default_rng(0)
    seconds = {name: np.zeros(rounds) for name in timed}
    for k in range(rounds):
        for name in rng.permutation(list(timed)):
            timed[name]()
            start = time.perf_counter()
            timed[name]()
            seconds[name][k] = time.perf_counter() - start
    return {name: float(np.quantile(each, 0.1)) for name, each in seconds.items()}


def row(size: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Measure one size: the bare product in ms, the others in bare products."""
    seconds = measure(contestants(*size), rounds)
    bare = seconds["bare"]
    return {
        **dict(zip(("rows", "width", "classes"), size, strict=True)),
        "bare_ms": round(1e3 * bare, 2),
        "ours": round(seconds["ours"] / bare, 3),
        "maximum": round(seconds["maximum"] / bare, 3),
    }


def main() -> None:
    """Measure every size; the exit code is 1 where ours costs more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = [row(size, options.rounds) for size in SIZES]
    report = {
        **made(),
        "rounds": options.rounds,
        "threads": options.threads,
        "bound": BOUND,
        "sizes": sizes,
        "versions": versions("errata", "numpy", "torch"),
    }
    if options.json:
        options.json.write_text(
            json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
    sys.stdout.write("    rows  width  classes     bare     ours  maximum\n")
    for each in sizes:
        sys.stdout.write(
            f"{each['rows']:8,} {each['width']:6} {each['classes']:8} {each['bare_ms']:5.1f} ms"
            f"  {each['ours']:6.2f}x {each['maximum']:7.2f}x\n"
        )
    sys.exit(int(max(each["ours"] for each in sizes) > BOUND))


if __name__ == "__main__":
    main()
