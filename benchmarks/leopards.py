"""How often people disagree with the labels that an audit of CIFAR-10 puts first.

    errata audit cifar10:DIR/cifar10 --limit 20000 --epochs 25 --out leopards
    ERRATA_DATA=DIR python benchmarks/leopards.py --audit leopards

DIR holds `cifar10/` and `cifar10n/`. CIFAR-10N has three more labels for each training image; the
share is counted of the worst 50, the worst 1,000 and all rows whose label differs from the
aggregate of the three, and from the worst of them. Numbers go to `benchmarks/leopards.json`. The
judgement by eye that the docs give of the first 50 is one person's, and no program makes it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
from provenance import versions

FIRST = (50, 1_000)
KEPT = ("recipe", "model", "epochs", "seed", "rows", "version", "date", "noise_rate", "tiers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audit", type=Path, default=Path("leopards"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/leopards.json"))
    args = parser.parse_args()
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    summary = json.loads((args.audit / "summary.json").read_text("utf-8"))
    with (args.audit / "issues.csv").open(newline="", encoding="utf-8") as file:
        issues = list(csv.DictReader(file))
    order = np.array([int(issue["id"]) for issue in issues])
    packed = np.load(data / "cifar10n" / "cifar10n.npz", allow_pickle=False)
    own = packed["clean_label"][order]
    differs = {}
    for name in ("aggre_label", "worst_label"):
        other = packed[name][order] != own
        differs[name] = {f"first {n}": round(float(other[:n].mean()), 4) for n in FIRST}
        differs[name]["all"] = round(float(other.mean()), 4)
    told = {key: summary[key] for key in KEPT}
    told |= {"test_accuracy": summary["test"]["accuracy"], "people_differ": differs}
    told["versions"] = versions("errata", "numpy")
    told["p_wrong_of_the_worst"] = float(issues[0]["p_wrong"])
    args.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")
    print(json.dumps(told, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
