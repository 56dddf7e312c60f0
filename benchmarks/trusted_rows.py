"""What a few rows that people have judged are worth: eight recipes with and without them.

    python benchmarks/trusted_rows.py [--json FILE] [--only RECIPE] [--show]

The 1,438 digits, uniform noise of .4 and asymmetric noise of .3, the default net, 20 epochs, seeds
0 to 2 of the noise, the training and the choice of rows. A random share of the rows, 5, 10 or 25 %,
has a verdict of a person: its label is right, or wrong. Recipes that want trusted rows get those
found right; `cleannet` and `smp+verified` read the verdicts themselves. `erm`, `gce`, `odd` and
`smp` get none and are run once for all shares. `clean-only` makes 20 passes over the trusted rows;
`clean-only, as long` as many steps as plain training, which is the fair control.

Accuracy is that of the last epoch on the 359 test rows. Cost is the processor time of the training
over that of `erm` with the same noise and seed. Finished runs are kept, so that the command goes on
where it stopped. An hour on one core.

Bars, stated before this file was run. Not blind: for uniform noise and a tenth of the rows an
earlier script had run all of them but the `clean-only` of full length.

- erm: `finetune`, `l2rw`, `mw-net` and `cleannet` are more accurate than `erm`, by more than the
  standard deviation over seeds of either, in all six cells.
- gce: each of them is more accurate than `gce`, which needs nobody's verdict, in all six cells.
- alone: each of them is more accurate than `clean-only, as long` in all six cells.
- verified: `smp+verified` is more accurate than `smp` in all six cells.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import made, versions

from errata.config import Settings, program_of, set_paths, stages_of
from errata.data.samples import Samples, open_samples
from errata.engine import default_batch, fit
from errata.engine.testing import mean_probabilities, test_accuracy, test_feed
from errata.ledger import Ledger
from errata.measures import auroc
from errata.models import default_model

RESULTS = Path(__file__).with_suffix(".json")
NOISES, SHARES, SEEDS = ("uniform:0.4", "asymmetric:0.3"), (0.1, 0.05, 0.25), (0, 1, 2)
EPOCHS = 20
PLAIN = ("erm", "gce", "odd", "smp")
JUDGED = {
    "clean-only": ("clean-only",),
    "clean-only, as long": ("clean-only",),
    "l2rw": ("l2rw",),
    "mw-net": ("mw-net",),
    "cleannet": ("cleannet",),
    "smp+verified": ("smp",),
    "finetune": ("erm+finetune",),
    "odd+finetune": ("odd+finetune",),
    "l2rw, head": ("l2rw", "stage.parts.l2rw.of=head"),
    "mw-net, head": ("mw-net", "stage.parts.mw-net.of=head"),
}
"""Recipe and settings by the name in the tables."""
TOLD = ("finetune", "l2rw", "mw-net", "cleannet")
"""Those that the first three bars speak of."""
ORDER = ("erm", "clean-only", "cleannet", "l2rw", "finetune", "mw-net", "gce")
"""Made first, so that the cards have their numbers early."""

Numbers = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--only", help="one recipe, by its name in the tables")
    parser.add_argument("--show", action="store_true", help="run nothing; print the tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {"runs": {}}
    for key, cell in {} if args.show else keys().items():
        if key in kept["runs"] or args.only not in (None, cell[2]):
            continue
        kept["runs"][key] = run(*cell)
        print(key, kept["runs"][key], flush=True)
        save(args.json, kept["runs"])
    print(table(kept["runs"]))


def keys() -> dict[str, tuple[str, float | None, str, int]]:
    """List all runs in the order in which they are made: noise, share, recipe, seed.

    One cell after the other, so that what is finished can be read.
    """
    told: dict[str, tuple[str, float | None, str, int]] = {}
    recipes = dict.fromkeys((*ORDER, *PLAIN, *JUDGED))
    for share, noise in product(SHARES, NOISES):
        for recipe, seed in product(recipes, SEEDS):
            plain = recipe in PLAIN
            place = noise if plain else f"{noise}/{share}"
            told[f"{place}/{recipe}/{seed}"] = (noise, None if plain else share, recipe, seed)
    return told


def run(noise: str, share: float | None, recipe: str, seed: int) -> Numbers:
    """Train once and measure."""
    samples = open_samples("digits", noise=noise, seed=seed)
    wrong = wrong_rows(samples)
    verdicts = None if share is None else judged_rows(wrong, share, seed)
    name, *changes = JUDGED.get(recipe, (recipe,))
    settings = Settings(seed=seed, recipe=name)
    epochs = EPOCHS
    if recipe == "clean-only, as long":
        assert verdicts is not None
        epochs *= steps(len(wrong), len(wrong)) // steps(int((verdicts == 1).sum()), len(wrong))
    stages = stages_of(name, rows=len(wrong), epochs=epochs)
    program = program_of(set_paths(replace(settings, stage=stages), changes))
    start = time.process_time()
    done = fit(
        program,
        samples.source,
        model=default_model(samples.source.shape),
        seed=seed,
        verified=None if verdicts is None else torch.from_numpy(verdicts),
    )
    seconds = time.process_time() - start
    test = samples.tests["test"]
    accuracy = test_accuracy(mean_probabilities(done, test_feed(done, test)), test.given)
    found: Numbers = {"accuracy": round(accuracy, 4), "cpu_seconds": round(seconds, 2)}
    if verdicts is not None:
        found["trusted"] = int((verdicts == 1).sum())
    return found | ranking(done.ledger, wrong, verdicts)


def wrong_rows(samples: Samples) -> np.ndarray:
    """Tell which given labels are not the true ones [N]."""
    assert samples.truth is not None
    return samples.truth.clean != samples.source.given


def judged_rows(wrong: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Give verdicts [N] on a random share of the rows: 1 right, 0 wrong, -1 nobody has looked."""
    known = np.full(len(wrong), -1)
    picked = np.random.default_rng(seed).permutation(len(wrong))[: round(share * len(wrong))]
    known[picked] = ~wrong[picked]
    return known


def steps(presented: int, rows: int) -> int:
    """Count the steps of one pass over some samples, with the batch that suits all the rows."""
    return math.ceil(presented / default_batch(rows))


def ranking(ledger: Ledger, wrong: np.ndarray, verdicts: np.ndarray | None) -> Numbers:
    """Give the area under the ROC curve of what the ledger holds of every row, low meaning wrong.

    `cosine` is of the rows that nobody judged: the others have taught it.
    """
    if not ledger.has("margin_sum") or not bool((ledger.read("times_seen") > 0).all()):
        return {}
    seen = ledger.read("times_seen")
    told = {"auroc_margin": auroc(-(ledger.read("margin_sum") / seen).numpy(), wrong)}
    if ledger.has("weight_sum"):
        told["auroc_weight"] = auroc(-(ledger.read("weight_sum") / seen).numpy(), wrong)
    if ledger.has("label_cosine"):
        assert verdicts is not None
        rest = verdicts < 0
        cosine = ledger.read("label_cosine").numpy()
        told["auroc_cosine"] = auroc(-cosine[rest], wrong[rest])
    return {name: round(value, 4) for name, value in told.items()}


def save(path: Path, runs: Numbers) -> None:
    """Write the runs, their means and the bars; a reader never sees half a file."""
    cells = summary(runs)
    content = {
        "bars": bars(cells),
        "cells": cells,
        "made": made() | {"versions": versions("numpy", "torch"), "threads": 1},
        "runs": runs,
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    part.replace(path)


def summary(runs: Numbers) -> dict[str, dict[str, Numbers]]:
    """Give mean and standard deviation over seeds by cell (noise/share) and recipe."""
    told: dict[str, dict[str, Numbers]] = {}
    for noise, share in product(NOISES, sorted(SHARES)):
        cell = told[f"{noise}/{share}"] = {}
        for recipe in (*PLAIN, *JUDGED):
            place = noise if recipe in PLAIN else f"{noise}/{share}"
            found = {seed: runs.get(f"{place}/{recipe}/{seed}") for seed in SEEDS}
            erm = {seed: runs.get(f"{noise}/erm/{seed}") for seed in SEEDS}
            if all(found.values()) and all(erm.values()):
                cell[recipe] = over_seeds(list(found.values()), list(erm.values()))
    return told


def over_seeds(found: list[Any], erm: list[Any]) -> Numbers:
    accuracy = [run["accuracy"] for run in found]
    costs = [
        run["cpu_seconds"] / plain["cpu_seconds"] for run, plain in zip(found, erm, strict=True)
    ]
    told = {
        "accuracy": round(float(np.mean(accuracy)), 4),
        "sd": round(float(np.std(accuracy, ddof=1)), 4),
        "cost": round(float(np.mean(costs)), 2),
    }
    means = {
        name: round(float(np.mean([run[name] for run in found])), 4)
        for name in found[0]
        if name.startswith("auroc")
    }
    return told | means


def bars(cells: dict[str, dict[str, Numbers]]) -> Numbers:
    """Count the cells in which each bar is met; None until all have been run."""
    told: Numbers = {}
    for recipe in TOLD:
        told[f"erm, {recipe}"] = met(cells, recipe, "erm", beyond_spread=True)
        told[f"gce, {recipe}"] = met(cells, recipe, "gce")
        told[f"alone, {recipe}"] = met(cells, recipe, "clean-only, as long")
    told["verified, smp"] = met(cells, "smp+verified", "smp")
    return told


def met(
    cells: dict[str, dict[str, Numbers]], recipe: str, other: str, *, beyond_spread: bool = False
) -> Numbers | None:
    """Count the cells in which a recipe is more accurate than another."""
    if not all(recipe in cell and other in cell for cell in cells.values()):
        return None
    won = 0
    for cell in cells.values():
        gained = cell[recipe]["accuracy"] - cell[other]["accuracy"]
        least = max(cell[recipe]["sd"], cell[other]["sd"]) if beyond_spread else 0.0
        won += gained > least
    return {"cells": won, "of": len(cells), "met": won == len(cells)}


def table(runs: Numbers) -> str:
    """Draw accuracies, and the costs where a tenth is judged, as Markdown."""
    cells = summary(runs)
    lines = ["| recipe | " + " | ".join(cells) + " | cost |", "|---" * (len(cells) + 2) + "|"]
    for recipe in (*PLAIN, *JUDGED):
        shown = [
            f"{100 * cell[recipe]['accuracy']:.1f} ± {100 * cell[recipe]['sd']:.1f}"
            if recipe in cell
            else ""
            for cell in cells.values()
        ]
        costs = [cell[recipe]["cost"] for cell in cells.values() if recipe in cell]
        cost = f"{np.mean(costs):.1f}" if costs else ""
        lines.append(f"| {recipe} | " + " | ".join([*shown, cost]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
