"""How many of the first 50 suggestions people confirm, against cleanlab's ranking of the same rows.

    ERRATA_DATA=DIR PYTHONPATH=WHERE_CLEANLAB_IS python benchmarks/label_errors.py

The test sets of CIFAR-10 and MNIST with published held-out probabilities. People judged 275 and 100
rows, which confident learning had chosen; a row is an error where fewer than three of five chose
its label. Only the judged rows are ranked: of the others nobody knows. Both libraries rank them by
their defaults; the other scores of both are told beside, chosen by nobody. Bar, stated before
measuring: errata's default on CIFAR-10 at least .05 above cleanlab's; aim .60.

The standard error of a precision of .3 among 50 rows is .065, so that a difference of .05 is within
chance. Numbers go to `benchmarks/label_errors.json`. Seconds.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from provenance import today, versions

from errata import find_label_errors
from errata.detect.score import SCORES
from errata.machine import processor_name
from errata.measures import auroc, average_precision

FIRST, BAR, AIM = 50, 0.05, 0.6
SETS = ("cifar10", "mnist")
PEER_SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def open_set(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read probabilities [N, C], labels [N], the judged rows [J] and whether they are errors."""
    folder = data / "label_errors"
    probs = np.load(folder / f"{name}_test_pred_probs.npy")
    given = np.load(folder / f"{name}_test_labels.npy").astype(np.int64)
    judged = json.loads((folder / f"{name}_mturk.json").read_text("utf-8"))
    rows = np.array([entry["id"] for entry in judged])
    return probs, given, rows, np.array([entry["mturk"]["given"] < 3 for entry in judged])


def measure(suspicion: np.ndarray, rows: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Measure one ranking; of equal suspicions the row of the lowest number comes first."""
    among = suspicion[rows]
    order = np.lexsort((rows, -among))
    return {
        f"precision_at_{FIRST}": round(float(wrong[order[:FIRST]].mean()), 4),
        "auroc": round(auroc(among, wrong), 4),
        "average_precision": round(average_precision(among, wrong), 4),
    }


def peer_rankings(probs: np.ndarray, given: np.ndarray) -> dict[str, np.ndarray]:
    """Give cleanlab's suspicions by score, its default first; none where it is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    return {
        name: -get_label_quality_scores(given, probs, method=name, adjust_pred_probs=False)
        for name in PEER_SCORES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/label_errors.json"))
    args = parser.parse_args()
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    sets: dict[str, Any] = {}
    for name in SETS:
        probs, given, rows, wrong = open_set(data, name)
        found = {score: find_label_errors(given, probs, score=score) for score in SCORES}
        default = next(iter(SCORES))
        sets[name] = {
            "judged": len(rows),
            "errors": int(wrong.sum()),
            "flagged": int(found[default].flagged.sum()),
            "errata": {s: measure(each.suspicion, rows, wrong) for s, each in found.items()},
            "cleanlab": {
                s: measure(r, rows, wrong) for s, r in peer_rankings(probs, given).items()
            },
        }
        print(name, json.dumps(sets[name]), flush=True)
    first = f"precision_at_{FIRST}"
    own = next(iter(sets["cifar10"]["errata"].values()))[first]
    peers = sets["cifar10"]["cleanlab"]
    met = {f"cifar10: errata reaches {AIM} (aim)": own >= AIM}
    if peers:
        ahead = own - peers[PEER_SCORES[0]][first]
        met[f"cifar10: errata at least {BAR} above cleanlab"] = ahead >= BAR - 1e-9
    result = {
        "bars": met,
        "date": today(),
        **versions("numpy"),
        "processor": processor_name(),
        "sets": sets,
    }
    args.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
