"""How often the interval of the noise rate covers the truth, on planted runs.

    python benchmarks/rate_interval.py [--work DIR] [--train-only] [--only test]

Digits, net `mlp` of 64 inputs, plain training of 20 epochs, recorded by `Track` as an audit does.
Five kinds of noise in turn (uniform, asymmetric, one rate per class, instance, none), rates drawn
between .02 and .45 by the seed. 50 runs of seeds 0 to 49 are the test; 20 runs of seeds 1000 to
1019 are those that the width of the interval may be fitted on (`errata.detect.rate`), and count for
nothing. Every ledger is kept in `--work` and used again, so an interrupted run goes on. The bar,
set before measuring: at least 45 of 50. Numbers go to `benchmarks/rate_interval.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import errata
from errata.data import Augment, open_source, plant_noise
from errata.detect import estimate_rate
from errata.engine import Engine, TrainingRun, fit
from errata.ledger import Ledger, standard
from errata.machine import processor_name
from errata.methods import phases_named
from errata.observe import Track
from errata.parts.base import stages_of_phases
from errata.types import Source

KINDS = ("uniform", "asymmetric", "per-class", "instance", "none")
TEST, DEVELOPMENT = range(50), range(1000, 1020)
LEAST, MOST, EPOCHS, BATCH, BAR = 0.02, 0.45, 20, 32, 0.9


def noise_of(seed: int) -> str:
    """Draw the noise of one run."""
    rng = np.random.default_rng([seed, 5])
    kind = KINDS[seed % len(KINDS)]
    if kind == "none":
        return "uniform:0"
    if kind == "per-class":
        return "per-class:" + ",".join(f"{rate:.3f}" for rate in rng.uniform(0, MOST, 10))
    return f"{kind}:{rng.uniform(LEAST, MOST):.3f}"


def train(
    source: Source, *, model: str, epochs: int, batch: int, augment: str, seed: int
) -> TrainingRun:
    """Train plainly, and look at every row once more, as an audit does."""
    run = fit(
        stages_of_phases(phases_named("erm"), epochs=epochs, batch=batch),
        source,
        model=model,
        seed=seed,
        augment=Augment.parse(augment),
        engine=Engine(threads=1),
        observers=(Track(),),
    )
    run.ledger.add("audit", standard("final_prob", shape=(run.classes,)))
    probs = run.sweep(0)[0].softmax(1)
    run.ledger.write("final_prob", torch.arange(run.num_rows), probs, stamp=run.tick)
    return run


def ledger_of(place: Path, source: Source, **how: Any) -> Ledger:
    """Give the ledger of a training, made once."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        train(source, **how).ledger.save(place)
    ledger = Ledger.load(place)
    ledger.check(source.ids, source.given)
    return ledger


def run_of(seed: int, work: Path) -> tuple[Ledger, np.ndarray, str]:
    """Give the ledger of one run, its true classes [N], and its noise."""
    noise = noise_of(seed)
    planted = plant_noise(open_source("digits", seed=seed).train, noise, seed=seed)
    how: dict[str, Any] = {"epochs": EPOCHS, "batch": BATCH, "augment": "none", "seed": seed}
    ledger = ledger_of(work / f"digits-{seed}", planted.source, model="mlp", **how)
    return ledger, planted.truth.clean, noise


def measure(seed: int, work: Path) -> dict[str, Any]:
    """Compare the interval of one run with the truth."""
    ledger, truth, noise = run_of(seed, work)
    rate = float((ledger.given.cpu().numpy() != truth).mean())
    found = estimate_rate(ledger)
    return {
        "seed": seed,
        "kind": KINDS[seed % len(KINDS)],
        "noise": noise,
        "truth": round(rate, 4),
        "estimate": round(found.estimate, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "covered": bool(found.low <= rate <= found.high),
        "method": found.method,
    }


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up runs: coverage, width of the interval, error of the estimate."""
    widths = [run["high"] - run["low"] for run in runs]
    errors = [abs(run["estimate"] - run["truth"]) for run in runs]
    return {
        "runs": len(runs),
        "coverage": round(float(np.mean([run["covered"] for run in runs])), 4),
        "mean_width": round(float(np.mean(widths)), 4),
        "mean_error": round(float(np.mean(errors)), 4),
    }


def facts() -> dict[str, Any]:
    """Say when and where the numbers were made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": processor_name(),
        "versions": {
            "errata": errata.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("rate-runs"))
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--only", choices=("test", "development"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/rate_interval.json"))
    args = parser.parse_args()
    groups = {"development": DEVELOPMENT, "test": TEST}
    if args.only:
        groups = {args.only: groups[args.only]}
    found: dict[str, Any] = {}
    for group, seeds in groups.items():
        if args.train_only:
            for seed in seeds:
                run_of(seed, args.work)
                print(group, seed, flush=True)
            continue
        runs = []
        for seed in seeds:
            runs.append(measure(seed, args.work))
            print(json.dumps(runs[-1]), flush=True)
        found[group] = {
            "all": told(runs),
            "runs": runs,
            **{kind: told([run for run in runs if run["kind"] == kind]) for kind in KINDS},
        }
        print(group, json.dumps(found[group]["all"]), flush=True)
    if args.train_only or args.only:
        return
    document = {
        "bar": BAR,
        "passed": found["test"]["all"]["coverage"] >= BAR,
        **found,
        **facts(),
    }
    args.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
