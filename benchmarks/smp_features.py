"""SMP from good features, as in its paper, where the net comes pretrained.

    ERRATA_DATA=DIR python benchmarks/smp_features.py

DIR holds `fashion_mnist/`. A net is trained on images 20,000 to 40,000 of Fashion-MNIST with their
true labels and stands for a pretrained one. It then goes on, for 20 epochs with a cosine from .02,
with the first 10,000 images, 40 % of whose labels were drawn anew: by plain training, and by SMP
with the settings of its card and with centred features. Numbers go to
`benchmarks/smp_features.json`. Six minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from errata.data import Augment, Subset, open_source, plant_noise
from errata.engine import fit
from errata.engine.evaluate import label_report
from errata.methods import recipe_named
from errata.parts.base import OptimizerSpec, Recipe, Stage
from errata.parts.prototypes import SMP

ROWS, EPOCHS, NOISE = 10_000, 20, "uniform:0.4"
SLOW = OptimizerSpec(lr=0.02)
RECIPES = {
    "erm": Recipe(),
    "smp": recipe_named("smp"),
    "smp, start 1": Recipe(parts=(SMP(start=1),)),
    "smp, start 1, centred, percentile 60": Recipe(
        parts=(SMP(start=1, center=True, sc_percentile=60.0),)
    ),
    "the same, margin 0.2, alpha 1": Recipe(
        parts=(SMP(start=1, center=True, sc_percentile=60.0, margin=0.2, alpha=1.0),)
    ),
}


def pretrained(opened: Any) -> nn.Module:
    """Train on other images of the same classes, with true labels."""
    others = Subset(opened.train, np.arange(20_000, 40_000))
    stage = Stage(epochs=5)
    run = fit(
        (stage,),
        others,
        model="conv",
        augment=Augment.parse("flip"),
        tests=opened.tests,
        test_every=5,
    )
    print("pretrained:", run.history[-1]["test"], flush=True)
    return run.nets[0].body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/smp_features.json"))
    args = parser.parse_args()
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    opened = open_source(f"fashion-mnist:{data}/fashion_mnist")
    planted = plant_noise(Subset(opened.train, np.arange(ROWS)), NOISE, seed=0)
    start = pretrained(opened)
    told: dict[str, Any] = {"noise": NOISE, "rows": ROWS, "epochs": EPOCHS}
    # Finished ones are kept, so that the command goes on where it stopped.
    told |= json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    for name, recipe in RECIPES.items():
        if name in told:
            continue
        run = fit(
            (Stage(recipe=recipe, epochs=EPOCHS, optimizer=SLOW),),
            planted.source,
            model=partial(copy.deepcopy, start),
            augment=Augment.parse("flip"),
            tests=opened.tests,
            test_every=EPOCHS,
        )
        labels = label_report(planted.truth, run.ledger)
        told[name] = {"accuracy": run.history[-1]["test"]["test"], "labels": labels}
        print(name, told[name], flush=True)
        args.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
