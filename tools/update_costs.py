"""Regenerate what the recipes cost from committed results: ``python tools/update_costs.py``.

The cost of a recipe is its processor time over that of plain training in the same cell of the
suite `fashion-10k-30`: the median over noises, to a twentieth.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
COSTS = ROOT / "src" / "errata" / "methods" / "costs.toml"
SUITE = "fashion-10k-30"
HEAD = """\
# Processor time of each recipe over that of plain training, median over the noises measured:
# benchmarks/results.jsonl, suite fashion-10k-30. Written by tools/update_costs.py.
"""


def costs_text(lines: Iterable[str]) -> str:
    """Give the text of the file for results, one JSON object a line."""
    found: dict[str, list[float]] = defaultdict(list)
    for result in map(json.loads, lines):
        if result["suite"] == SUITE and result.get("cost") and "+" not in result["recipe"]:
            found[result["recipe"]].append(result["cost"])
    costs = (f"{name} = {round(20 * median(each)) / 20}\n" for name, each in sorted(found.items()))
    return HEAD + "".join(costs)


if __name__ == "__main__":
    COSTS.write_text(costs_text(RESULTS.read_text("utf-8").splitlines()), encoding="utf-8")
