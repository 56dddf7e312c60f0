"""Draw what the suite `memorization` has measured so far, and write its tables into the docs.

    errata bench next memorization --minutes 240
    python benchmarks/memorization_long.py
    python benchmarks/memorization_figure.py

Reads benchmarks/results.jsonl and benchmarks/memorization_long.json; writes
docs/img/memorization-NOISE.svg and, between its two marks, docs/concepts/memorization.md. What is
missing is said to be missing. Numbers are those of `memorization_answers`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from memorization_answers import BRAKES, LOSSES, Cells, answers, learned, share
from odd_figures import Curve, Panel, curve_panels, write

from errata.bench.runner import RESULTS, Result, read_results
from errata.bench.suites import suite_named

PAGE, IMAGES = Path("docs/concepts/memorization.md"), Path("docs/img")
LONG = Path("benchmarks/memorization_long.json")
FIRST = "<!-- measured: what follows is written by benchmarks/memorization_figure.py -->"
LAST = "<!-- measured: end -->"
STYLES = dict(zip(BRAKES, ("c3", "c2", "c5", "c1", "c4"), strict=True))
ROWS = {
    "fit_wrong": "wrong labels learned",
    "fit_right": "right labels learned",
    "accuracy_curve": "test accuracy",
}
NOISES = {
    "uniform:0.4": ("40", "Labels redrawn for 40 % of the rows (`uniform:0.4`)"),
    "uniform:0.2": ("20", "For 20 % (`uniform:0.2`)"),
    "none": ("none", "For none"),
    "uniform:1": ("random", "For all: random labels (`uniform:1`)"),
}
SCALES = (0.1, 0.3, 0.6, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--img", type=Path, default=IMAGES)
    args = parser.parse_args()
    suite = suite_named("memorization")
    found = {r["cell"]: r for r in read_results(args.results) if r["suite"] == suite.name}
    told = json.loads(LONG.read_text("utf-8")) if LONG.exists() else {"cells": {}}
    missing = [cell.name for cell in suite.cells() if cell.name not in found]
    parts = [f"{len(found)} of {len(suite.cells())} cells are measured, one seed each."]
    for noise, (name, title) in NOISES.items():
        cells = cells_of(found, noise)
        parts.append(f"### {title}")
        if not cells:
            parts.append("Not measured yet.")
            continue
        label = f"Fit of wrong and right labels and test accuracy by epoch, noise {noise}"
        losses = len({loss for loss, _ in cells})
        drawn = curve_panels(panels_of(cells), label=label, columns=losses)
        write(args.img, f"memorization-{name}.svg", drawn)
        parts.append(f"![{label}](../img/memorization-{name}.svg)")
        parts.append(table_of(cells))
    parts.append("## The questions of the notes, in numbers")
    by_noise = {noise: cells_of(found, noise) for noise in NOISES}
    parts += answers(by_noise, told["cells"])
    page = args.page.read_text("utf-8")
    before, after = page.split(FIRST)[0], page.split(LAST)[1]
    args.page.write_text(before + "\n\n".join([FIRST, *parts, LAST]) + after, "utf-8")
    print("\n\n".join(parts))
    print(f"\nmissing: {', '.join(missing) or 'nothing'}")


def cells_of(found: dict[str, Result], noise: str) -> Cells:
    """Pick the measured cells of a noise, by loss and brake."""
    names = {(loss, brake): f"{loss}@{brake}/{noise}/0" for loss in LOSSES for brake in BRAKES}
    return {key: found[name] for key, name in names.items() if name in found}


def panels_of(cells: Cells) -> list[Panel]:
    """Give a row of panels for each measure, with a panel for each loss and a line per brake."""
    panels = []
    for kind, words in ROWS.items():
        of_kind = {key: values_of(cell, kind) for key, cell in cells.items()}
        top = max((y for values in of_kind.values() for y in values), default=1.0)
        high = next(scale for scale in SCALES if top <= scale)
        for loss, title in LOSSES.items():
            curves = [
                Curve(brake, style, epochs_of(cells[loss, brake], kind), of_kind[loss, brake])
                for brake, style in STYLES.items()
                if of_kind.get((loss, brake))
            ]
            if curves:
                panels.append(Panel(f"{title}: {words}", curves, 0.0, high, percent=True))
    return panels


def values_of(cell: Result, kind: str) -> list[float]:
    if kind == "accuracy_curve":
        return list(cell[kind])
    return (cell.get("curves") or {}).get(kind) or []


def epochs_of(cell: Result, kind: str) -> list[float]:
    if kind == "accuracy_curve":
        return [float(epoch) for epoch in cell["curve_epochs"]]
    return [float(epoch + 1) for epoch in range(len(values_of(cell, kind)))]


def table_of(cells: Cells) -> str:
    """Give a table with a line per brake; a dash stands for what is not measured or not there."""
    heads = [f"{title}: wrong / right / test %" for title in LOSSES.values()]
    lines = [f"| brake | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for brake, words in BRAKES.items():
        told = [
            " / ".join(share(value) for value in learned(cells.get((loss, brake))))
            for loss in LOSSES
        ]
        lines.append(f"| {words} | {' | '.join(told)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
