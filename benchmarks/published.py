"""Published probabilities: errata and cleanlab, both by default, on the same arrays.

    ERRATA_DATA=DIR PYTHONPATH=WHERE_CLEANLAB_IS python benchmarks/published.py

Cells: the four of `cifar10n_pred_probs` (human labels of CIFAR-10, two networks) and the three of
`confident_learning` (synthetic noise of 0, 20 and 40 %). No constant of errata is fitted to them
(see `benchmarks/rate_study.py`), but the default rule was chosen with some of these numbers known,
so this is no blind test of that choice: decision 0014 tells the history. Every score is compared
with the best threshold that somebody who knows the truth could put on errata's own score, for the
default and for every other rule of the rate. Without cleanlab its columns are left out. Bars:

- `f1_of_oracle` of the human cells: .98 on average, .95 in the worst; the rate within 2 points;
- of the synthetic cells: at least that of flagging exactly the true share by the same score, and
  the rate within 3 points;
- the clean cell: at most 3 % flagged.

Numbers go to `benchmarks/published.json`; what is missed is listed there as missed. Half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from errata import find_label_errors
from errata.detect.how_many import DEFAULT_RULE, RULES, estimate_rate, rate_readings
from errata.machine import processor_name
from errata.measures import auroc, average_precision, oracle_f1, precision_recall_f1

HUMAN = ("aggre_resnet18", "aggre_swin", "worst_resnet18", "worst_swin")
PLANTED = ("sparsity0_0_noise0_0", "sparsity0_0_noise0_2", "sparsity0_6_noise0_4")
MEAN_BAR, WORST_BAR, HUMAN_POINTS, PLANTED_POINTS, CLEAN_BAR = 0.98, 0.95, 0.02, 0.03, 0.03


def open_cell(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read probabilities [N, C], given labels [N] and true labels [N]."""
    if name in HUMAN:
        labels = np.load(data / "cifar10n" / "cifar10n.npz")
        probs = np.load(data / "cifar10n_pred_probs" / f"{name}.npz")["pred_probs"]
        given = labels[f"{name.split('_', maxsplit=1)[0]}_label"].astype(np.int64)
        return probs, given, labels["clean_label"].astype(np.int64)
    file = np.load(data / "confident_learning" / f"{name}.npz")
    true = np.load(data / "cifar10" / "labels.npz")["train"].astype(np.int64)
    return file["pred_probs"], file["noisy_labels"].astype(np.int64), true


def measure(flagged: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Measure a list [N] bool."""
    precision, recall, f1 = precision_recall_f1(flagged, wrong)
    share = float(flagged.mean())
    return {"flagged": share, "precision": precision, "recall": recall, "f1": f1}


def ours(probs: np.ndarray, given: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """Measure the default settings, and what every rule of the rate says."""
    found = find_label_errors(given, probs)
    told: dict[str, Any] = measure(found.flagged, wrong)
    everything = rate_readings(probs, given)
    rates = {rule: estimate_rate(everything, rule=rule).estimate for rule in RULES}
    told |= {
        "rate": found.rate.estimate,
        "rate_low": found.rate.low,
        "rate_high": found.rate.high,
        "rates": rates,
    }
    if wrong.any():
        best = oracle_f1(found.suspicion, wrong)
        order = np.argsort(-found.suspicion, kind="stable")

        def ratio(count: int) -> float:
            return measure(np.isin(np.arange(len(wrong)), order[:count]), wrong)["f1"] / best

        told |= {
            "auroc": auroc(found.suspicion, wrong),
            "average_precision": average_precision(found.suspicion, wrong),
            "oracle_f1": best,
            "f1_of_oracle": told["f1"] / best,
            "f1_of_oracle_at_true_share": ratio(int(wrong.sum())),
            "f1_of_oracle_by_rule": {
                rule: ratio(round(rate * len(wrong))) for rule, rate in rates.items()
            },
        }
    return told


def theirs(probs: np.ndarray, given: np.ndarray, wrong: np.ndarray) -> dict[str, Any] | None:
    """Measure cleanlab's defaults; None where it is not installed."""
    try:
        from cleanlab.count import num_label_issues
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return None
    flagged = find_label_issues(given, probs, n_jobs=1)
    told: dict[str, Any] = measure(flagged, wrong)
    told["rate"] = float(num_label_issues(given, probs)) / len(given)
    if wrong.any():
        suspicion = 1 - get_label_quality_scores(given, probs.astype(np.float64))
        told |= {
            "auroc": auroc(suspicion, wrong),
            "average_precision": average_precision(suspicion, wrong),
        }
    return told


def verdicts(cells: dict[str, Any]) -> dict[str, bool]:
    """Say which bars are met."""
    ratios = [cells[name]["errata"]["f1_of_oracle"] for name in HUMAN]
    met = {
        f"human cells: mean f1_of_oracle >= {MEAN_BAR}": float(np.mean(ratios)) >= MEAN_BAR,
        f"human cells: worst f1_of_oracle >= {WORST_BAR}": min(ratios) >= WORST_BAR,
    }
    for name, cell in cells.items():
        own, points = cell["errata"], HUMAN_POINTS if name in HUMAN else PLANTED_POINTS
        if not cell["wrong"]:
            met[f"{name}: flagged <= {CLEAN_BAR}"] = own["flagged"] <= CLEAN_BAR
            continue
        met[f"{name}: rate within {points}"] = abs(own["rate"] - cell["wrong"]) <= points
        if name in PLANTED:
            bar = own["f1_of_oracle_at_true_share"]
            met[f"{name}: f1_of_oracle >= that at the true share"] = own["f1_of_oracle"] >= bar
    return {what: bool(is_met) for what, is_met in met.items()}


def rounded(value: Any) -> Any:
    """Round every number within to four places."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/published.json"))
    args = parser.parse_args()
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    cells: dict[str, Any] = {}
    for name in (*HUMAN, *PLANTED):
        probs, given, true = open_cell(data, name)
        wrong = given != true
        cell = {"wrong": float(wrong.mean()), "errata": ours(probs, given, wrong)}
        peer = theirs(probs, given, wrong)
        if peer is not None:
            if wrong.any():
                peer["f1_of_oracle"] = peer["f1"] / cell["errata"]["oracle_f1"]
            cell["cleanlab"] = peer
        cells[name] = cell
        print(name, json.dumps(rounded(cell)), flush=True)
    met = verdicts(cells)
    result = {
        "bars": met,
        "cells": rounded(cells),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "met": f"{sum(met.values())} of {len(met)}",
        "note": "known in part when the default rule was chosen, see decision 0014",
        "numpy": np.__version__,
        "processor": processor_name(),
        "rule": DEFAULT_RULE,
    }
    args.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
