"""At which rate, and for how long, to tune a trained net on trusted rows.

    ERRATA_DATA=DIR python benchmarks/finetune_rates.py [--work DIR] [--json FILE]

A net is trained plainly on noisy labels. It is then tuned on trusted rows alone, in every way of a
grid: rate, schedule (constant, or a cosine that falls to nought) and length (share of the epochs
before). All ways start from the same net. Told is the test accuracy after the tuning less that
before it.

- `fashion`: the suite `fashion-10k-30`: 10,000 rows, uniform noise of .4, seed 0, 30 epochs, 1,000
  trusted rows. This is the cell in which .01, constant, for a tenth of the epochs lost 1.9 points.
- `digits`: 1,438 rows, uniform noise of .4 and asymmetric noise of .3, seeds 10 and 11 (other
  ones than those of `trusted_rows.py`), 20 epochs. A quarter of the rows is judged; those found
  right are the trusted ones.

The rule, stated before measuring: the default is the way with the largest mean gain on digits
among those that lose nothing on Fashion-MNIST; where all lose something, the one that loses least.
So ways are tried on Fashion-MNIST by their gain on digits, down to the first that loses nothing.
No paper that we build from gives a rate. The nets before tuning are kept in `--work` and finished
ways in the file, so that the command goes on where it stopped. Four minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, versions
from safetensors.torch import load_model, save_model
from torch import nn
from trusted_rows import judged_rows, wrong_rows

from errata.bench.opening import open_cell
from errata.bench.suites import Cell, suite_named
from errata.data import Augment, Subset
from errata.data.samples import open_samples
from errata.engine import default_batch, fit
from errata.engine.testing import mean_probabilities, test_accuracy, test_feed
from errata.models import build_model, default_model
from errata.parts.base import OptimizerSpec, Recipe, Stage
from errata.parts.trusted_only import CleanOnly
from errata.types import Source

RATES, SCHEDULES, SHARES = (0.03, 0.01, 0.003, 0.001), ("constant", "cosine"), (0.1, 0.3)
JUDGED = 0.25
SUITE, FASHION = "fashion-10k-30", "fashion/uniform:0.4/0"
CELLS = {
    **{
        f"digits/{noise}/{seed}": ("digits", noise, seed)
        for noise, seed in product(("uniform:0.4", "asymmetric:0.3"), (10, 11))
    },
    FASHION: ("fashion", "uniform:0.4", 0),
}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a net is trained, tuned and tested on."""

    source: Source
    trusted: Source
    test: Source
    model: str
    augment: str
    epochs: int
    batch: int
    seed: int

    def train(self, stage: Stage, model: Any, work: Path | None = None, **more: Any) -> Any:
        """Train one stage."""
        return fit(
            (stage,),
            self.source,
            model=model,
            seed=self.seed,
            augment=Augment.parse(self.augment),
            checkpoint=work,
            resume=work is not None,
            **more,
        )

    def accuracy(self, run: Any) -> float:
        """Measure a finished run on the test rows."""
        return test_accuracy(mean_probabilities(run, test_feed(run, self.test)), self.test.given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.cells/finetune_rates"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    kept = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {"cells": {}}
    for name, cell in CELLS.items():
        found = kept["cells"].setdefault(name, {"gains": {}})
        if not (missing := ways_missing(name, kept["cells"])):
            continue
        task = open_task(*cell)
        net, found["before"] = trained(task, args.work / name.replace("/", "_"))
        for way in missing:
            if way not in ways_missing(name, kept["cells"]):
                break
            after = tuned(task, net, *ways()[way])
            found["gains"][way] = round(after - found["before"], 4)
            print(name, way, found["gains"][way], flush=True)
            save(args.json, kept["cells"])


def ways_missing(name: str, cells: Numbers) -> list[str]:
    """List the ways still to be tried in a cell, in their order."""
    gains = cells[name]["gains"]
    order = list(ways())
    if name == FASHION:
        order.sort(key=gain_on_digits(cells).__getitem__, reverse=True)
        if any(gain >= 0 for gain in gains.values()):
            return []
    return [way for way in order if way not in gains]


def ways() -> dict[str, tuple[float, str, float]]:
    """List the ways to tune by name."""
    grid = product(RATES, SCHEDULES, SHARES)
    return {f"{rate} {schedule} {share}": (rate, schedule, share) for rate, schedule, share in grid}


def open_task(data: str, noise: str, seed: int) -> Task:
    """Open the rows of a cell."""
    if data == "fashion":
        suite = suite_named(SUITE)
        opened = open_cell(suite, Cell("finetune", noise, seed))
        assert opened.clean is not None
        how = (suite.model, suite.augment, suite.epochs, suite.batch, seed)
        return Task(opened.planted.source, opened.clean, opened.tests["test"], *how)
    samples = open_samples(data, noise=noise, seed=seed)
    wrong = wrong_rows(samples)
    right = np.flatnonzero(judged_rows(wrong, JUDGED, seed) == 1)
    how = (default_model(samples.source.shape), "none", 20, default_batch(len(wrong)), seed)
    return Task(samples.source, Subset(samples.source, right), samples.tests["test"], *how)


def trained(task: Task, work: Path) -> tuple[nn.Module, float]:
    """Give a net trained plainly on the noisy rows, and its accuracy; train it only once."""
    net = build_model(task.model, task.source.shape, len(task.source.classes))
    kept, told = work / "net.safetensors", work / "net.json"
    if kept.exists():
        load_model(net, kept)
        return net, json.loads(told.read_text("utf-8"))["before"]
    run = task.train(Stage(epochs=task.epochs, batch=task.batch), task.model, work / "run")
    before = round(task.accuracy(run), 4)
    save_model(run.nets[0].body, str(kept))
    told.write_text(json.dumps({"before": before}), "utf-8")
    return run.nets[0].body, before


def tuned(task: Task, net: nn.Module, rate: float, schedule: str, share: float) -> float:
    """Tune a copy of a net and measure it."""
    stage = Stage(
        recipe=Recipe(parts=(CleanOnly(),)),
        epochs=max(1, round(share * task.epochs)),
        batch=task.batch,
        optimizer=OptimizerSpec(lr=rate, schedule=schedule),
    )
    return task.accuracy(task.train(stage, partial(copy.deepcopy, net), clean=task.trusted))


def save(path: Path, cells: Numbers) -> None:
    """Write the gains by cell, their means on digits and the way that the rule chooses."""
    content = {
        "cells": cells,
        "chosen": chosen(cells),
        "made": made() | {"versions": versions("numpy", "torch"), "threads": 1},
        "mean_on_digits": gain_on_digits(cells),
    }
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


def gain_on_digits(cells: Numbers) -> dict[str, float]:
    """Average over the cells of digits; empty until all of them have been run."""
    found = [cells[name]["gains"] if name in cells else {} for name in CELLS if name != FASHION]
    if any(len(gains) < len(ways()) for gains in found):
        return {}
    return {way: round(float(np.mean([gains[way] for gains in found])), 4) for way in ways()}


def chosen(cells: Numbers) -> str | None:
    """Choose by the rule of the head of this file; None while ways are missing."""
    if FASHION not in cells or not gain_on_digits(cells) or ways_missing(FASHION, cells):
        return None
    gains = cells[FASHION]["gains"]
    harmless = [way for way, gain in gains.items() if gain >= 0]
    if harmless:
        return max(harmless, key=gain_on_digits(cells).__getitem__)
    return max(gains, key=gains.__getitem__)


if __name__ == "__main__":
    main()
