"""How many of the labels flagged by `--flag fdr:Q` are right, on planted errors.

    ERRATA_DATA=DIR python benchmarks/error_control.py [--work DIR]

Digits: the runs of uniform, asymmetric and no noise among the 50 test runs of `rate_interval.py`
(ten of each, rates of .02 to .45). Fashion-MNIST: the first 5,000 images, net `mlp`, flips, batch
128, 8 epochs of plain training, uniform and asymmetric noise of .2 and .4, seeds 0 to 2; the
latter joins look-alike classes. Every ledger is kept in `--work` and used again. Three ways:

- `audit`: what `errata audit --flag fdr:Q` flags, by the calibrated probabilities of its rows.
- `verified`: the same with 300 random rows that people have judged (`flag_against_right`).
- `phantom`: by phantom labels alone and the estimated rate (`flag_against_wrong`).

Not blind: some digits and two Fashion-MNIST runs had been seen before the rule of `audit` took its
present form (docs/concepts/error-control.md). The bar, set before that: for `audit`, each source,
uniform and asymmetric noise and Q = .05, .1 and .2, the mean share of right labels among the
flagged is at most Q + .01; an empty list counts as 0. Numbers: `benchmarks/error_control.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from rate_interval import KINDS, TEST, facts, ledger_of, run_of

from errata.data import Subset, open_source, plant_noise
from errata.detect import consensus, decide, default_detectors, estimate_rate
from errata.detect.error_control import flag_against_wrong
from errata.detect.phantom import phantom_margins
from errata.ledger import Ledger

SHARES, SLACK, JUDGED = (0.05, 0.1, 0.2), 0.01, 300
ROWS, EPOCHS, BATCH = 5_000, 8, 128
FASHION = ("uniform:0.2", "uniform:0.4", "asymmetric:0.2", "asymmetric:0.4")
SEEDS = range(3)


def fashion_run(noise: str, seed: int, work: Path) -> tuple[Ledger, np.ndarray]:
    """Give the ledger of one run on Fashion-MNIST, and its true classes [N]."""
    data = os.environ.get("ERRATA_DATA", "../shared/data")
    everything = open_source(f"fashion-mnist:{data}/fashion_mnist").train
    planted = plant_noise(Subset(everything, np.arange(ROWS)), noise, seed=seed)
    how: dict[str, Any] = {"epochs": EPOCHS, "batch": BATCH, "augment": "flip", "seed": seed}
    place = work / f"fashion-{noise.replace(':', '-')}-{seed}"
    return ledger_of(place, planted.source, model="mlp", **how), planted.truth.clean


def outcome(flagged: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Give the share of false alarms, 0 for an empty list, and the share of errors found."""
    alarms = float((flagged & ~wrong).sum() / max(1, flagged.sum()))
    recall = float((flagged & wrong).sum() / max(1, wrong.sum()))
    return {"alarms": alarms, "recall": recall, "flagged": int(flagged.sum())}


def measure(ledger: Ledger, truth: np.ndarray, seed: int) -> dict[str, Any]:
    """Flag by every way and share."""
    wrong = ledger.given.cpu().numpy() != truth
    scores = [detector.score(ledger) for detector in default_detectors(ledger)]
    joined = consensus(scores)
    rate = estimate_rate(ledger, joined)
    judged = np.random.default_rng([seed, 7]).permutation(len(truth))[:JUDGED]
    verified = np.full(len(truth), -1)
    verified[judged] = ~wrong[judged]
    observed, null = phantom_margins(ledger)
    found: dict[str, Any] = {"rate": float(wrong.mean()), "estimate": rate.estimate}
    for share in SHARES:
        flag = f"fdr:{share}"
        alone = decide(ledger, scores, joined, rate, flag=flag).flagged
        helped = decide(ledger, scores, joined, rate, flag=flag, verified=verified).flagged
        phantom = flag_against_wrong(-observed, -null, rate.estimate, share)
        unjudged = verified < 0
        found[flag] = {
            "audit": outcome(alone, wrong),
            # Rows that people judged are no discoveries.
            "verified": outcome(helped[unjudged], wrong[unjudged]),
            "phantom": outcome(phantom, wrong),
        }
    return found


def mean_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Average over runs, for every share and way."""
    table: dict[str, Any] = {"runs": len(runs)}
    for share in SHARES:
        table[f"fdr:{share}"] = {
            way: {
                "alarms": round(
                    float(np.mean([r[f"fdr:{share}"][way]["alarms"] for r in runs])), 4
                ),
                "recall": round(
                    float(np.mean([r[f"fdr:{share}"][way]["recall"] for r in runs])), 4
                ),
                "flagged": round(
                    float(np.mean([r[f"fdr:{share}"][way]["flagged"] for r in runs])), 1
                ),
            }
            for way in ("audit", "verified", "phantom")
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("rate-runs"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/error_control.json"))
    args = parser.parse_args()
    groups: dict[str, list[dict[str, Any]]] = {}
    for kind in ("uniform", "asymmetric", "none"):
        for seed in (seed for seed in TEST if KINDS[seed % len(KINDS)] == kind):
            ledger, truth, _ = run_of(seed, args.work)
            groups.setdefault(f"digits {kind}", []).append(measure(ledger, truth, seed))
        print(f"digits {kind}", json.dumps(mean_of(groups[f"digits {kind}"])), flush=True)
    for seed in SEEDS:
        for noise in FASHION:
            ledger, truth = fashion_run(noise, seed, args.work)
            found = measure(ledger, truth, seed)
            groups.setdefault(f"fashion {noise}", []).append(found)
            print(f"fashion {noise} {seed}", json.dumps(found), flush=True)
    for kind in ("uniform", "asymmetric"):
        parts = [runs for name, runs in groups.items() if name.startswith(f"fashion {kind}:")]
        groups[f"fashion {kind}"] = [run for runs in parts for run in runs]
    table = {name: mean_of(runs) for name, runs in groups.items()}
    bars = {
        f"{name} {share}": table[name][f"fdr:{share}"]["audit"]["alarms"] <= share + SLACK
        for name in ("digits uniform", "digits asymmetric", "fashion uniform", "fashion asymmetric")
        for share in SHARES
    }
    document = {"bars": bars, "passed": all(bars.values()), "means": table, **facts()}
    args.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
