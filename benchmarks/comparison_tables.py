"""Write the tables of the docs' comparison of recipes from the results so far.

    errata bench next fashion-10k --minutes 60
    errata bench next fashion-10k-30 --minutes 60
    python benchmarks/comparison_tables.py

Reads benchmarks/results.jsonl and writes docs/concepts/comparison.md, between its pairs of marks.
What is missing is a dash.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errata.bench import RESULTS
from errata.bench.suites.fashion import ASYMMETRIC, INSTANCE, PER_CLASS, UNIFORM
from errata.bench.tables import table

PAGE = Path("docs/concepts/comparison.md")
NOISES = {
    UNIFORM: "uniform 40 %",
    ASYMMETRIC: "look-alikes 40 %",
    INSTANCE: "by look 30 %",
    PER_CLASS: "by class 30 %",
}
APART = 0.01
"""The accuracy by noisy validation is shown where it is further than this from the last epoch's."""
DASH = "\u2013"
Row = dict[str, Any]
Rows = dict[str, dict[str, Row]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    long, short = (_measured(name, args.results) for name in ("fashion-10k", "fashion-10k-30"))
    parts = {
        "sixty epochs": _sixty(long),
        "accuracy": _accuracies(short),
        "finding": _finding(short),
    }
    page = args.page.read_text("utf-8")
    for name, text in parts.items():
        page = _put(page, name, text)
    args.page.write_text(page, "utf-8")
    for noise in NOISES:
        print(f"{noise}: {sum(noise in found for found in short.values())} of {len(short)}")


def _measured(suite: str, results: Path) -> Rows:
    """Give the row of each recipe and noise that was measured; recipes without any are kept."""
    found: Rows = {}
    for row in table(suite, results)["rows"]:
        of_recipe = found.setdefault(row["recipe"], {})
        if row["seeds"]:
            of_recipe[row["noise"]] = row
    return found


def _put(page: str, name: str, text: str) -> str:
    first, last = f"<!-- measured: {name} -->", f"<!-- measured: end of {name} -->"
    before, rest = page.split(first)
    return f"{before}{first}\n\n{text}\n\n{last}{rest.split(last)[1]}"


def _sixty(rows: Rows) -> str:
    lines = []
    for recipe in _ordered(rows):
        noisy, clean = rows[recipe].get(UNIFORM), rows[recipe].get("none")
        if noisy is not None:
            cells = (str(noisy["seeds"]), _accuracy(noisy), _accuracy(clean), _cost(noisy))
            lines.append((recipe, *cells))
    return _markdown(("recipe", "seeds", "accuracy %", "without noise %", "cost"), lines)


def _accuracies(rows: Rows) -> str:
    lines = [
        (recipe, *(_accuracy(rows[recipe].get(noise)) for noise in NOISES), _cheapest(rows[recipe]))
        for recipe in _ordered(rows)
    ]
    return _markdown(("recipe", *NOISES.values(), "cost"), lines)


def _finding(rows: Rows) -> str:
    lines = [
        (recipe, *(_ranking(rows[recipe].get(noise)) for noise in NOISES))
        for recipe in _ordered(rows)
    ]
    return _markdown(("recipe", *NOISES.values()), lines)


def _ordered(rows: Rows) -> list[str]:
    """Order recipes by accuracy at uniform noise, best first; those without it come last."""

    def last_epoch(recipe: str) -> float:
        row = rows[recipe].get(UNIFORM)
        return -1.0 if row is None else float(row["accuracy"]["mean"])

    return sorted(rows, key=last_epoch, reverse=True)


def _accuracy(row: Row | None) -> str:
    """Say mean and spread, and in brackets what noisy validation labels would have chosen."""
    if row is None:
        return DASH
    mean, spread = row["accuracy"]["mean"], row["accuracy"]["spread"]
    said = f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")
    chosen = row["accuracy_noisy_val"]
    if chosen is not None and spread is None and abs(chosen["mean"] - mean) > APART:
        said += f" ({100 * chosen['mean']:.1f})"
    return said


def _ranking(row: Row | None) -> str:
    if row is None or row["auroc"] is None:
        return DASH
    return f"{row['auroc']['mean']:.3f} / {row['average_precision']['mean']:.3f}"


def _cost(row: Row) -> str:
    return DASH if row["cost"] is None else f"{row['cost']['mean']:.2f}"


def _cheapest(found: dict[str, Row]) -> str:
    """Say the cost at the first noise that was measured."""
    return next((_cost(found[noise]) for noise in NOISES if noise in found), DASH)


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    out += [f"| `{name}` | {' | '.join(cells)} |" for name, *cells in lines]
    return "\n".join(out)


if __name__ == "__main__":
    main()
