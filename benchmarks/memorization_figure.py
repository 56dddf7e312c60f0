"""Draw what the suite `memorization` has measured so far; prints its table as well.

    errata bench next memorization --minutes 60
    python benchmarks/memorization_figure.py

Reads benchmarks/results.jsonl, writes docs/img/memorization-NOISE.svg. Cells that are missing are
left out, and counted at the end.
"""

from __future__ import annotations

from pathlib import Path

from odd_figures import Curve, Panel, curve_panels, write

from errata.bench.runner import RESULTS, Result, read_results
from errata.bench.suites import suite_named

IMAGES = Path("docs/img")
LOSSES = {"ce": "CE", "mae": "MAE", "gce": "GCE"}
BRAKES = {"plain": "c3", "dropout": "c2", "decay": "c5", "augment": "c1", "all": "c4"}
FITS = {"fit_wrong": "wrong labels learned", "fit_right": "right labels learned"}
FILES = {
    "uniform:1": "memorization-random.svg",
    "none": "memorization-none.svg",
    "uniform:0.2": "memorization-20.svg",
    "uniform:0.4": "memorization-40.svg",
}


def main() -> None:
    suite = suite_named("memorization")
    found = {r["cell"]: r for r in read_results(RESULTS) if r["suite"] == suite.name}
    for noise, name in FILES.items():
        cells = {
            (loss, brake): found[cell]
            for loss in LOSSES
            for brake in BRAKES
            if (cell := f"{loss}@{brake}/{noise}/0") in found
        }
        if not cells:
            continue
        label = f"Fit of wrong and right labels and test accuracy by epoch, noise {noise}"
        write(IMAGES, name, curve_panels(_panels(cells), label=label))
        print(f"\n{noise}\n{'cell':<12} {'wrong':>6} {'right':>6} {'test':>6} {'best':>6}")
        for (loss, brake), cell in cells.items():
            print(f"{loss + '@' + brake:<12} {' '.join(_words(each) for each in _ends(cell))}")
    missing = [cell.name for cell in suite.cells() if cell.name not in found]
    print(f"\n{len(missing)} of {len(suite.cells())} cells are missing")


def _panels(cells: dict[tuple[str, str], Result]) -> list[Panel]:
    """Give a row of panels for each measure, with a panel for each loss and a line per brake."""
    panels = []
    for kind, words in (*FITS.items(), ("accuracy_curve", "test accuracy")):
        for loss, title in LOSSES.items():
            curves = [
                Curve(brake, style, _epochs(cell, kind), _values(cell, kind))
                for brake, style in BRAKES.items()
                if (cell := cells.get((loss, brake))) and _values(cell, kind)
            ]
            if curves:
                panels.append(Panel(f"{title}: {words}", curves, 0.0, 1.0, percent=True))
    return panels


def _values(cell: Result, kind: str) -> list[float]:
    if kind in FITS:
        return (cell.get("curves") or {}).get(kind) or []
    return list(cell[kind])


def _epochs(cell: Result, kind: str) -> list[float]:
    if kind in FITS:
        return [float(epoch + 1) for epoch in range(len(_values(cell, kind)))]
    return [float(epoch) for epoch in cell["curve_epochs"]]


def _ends(cell: Result) -> tuple[float | None, ...]:
    wrong, right = (_values(cell, kind) for kind in FITS)
    return (
        wrong[-1] if wrong else None,
        right[-1] if right else None,
        cell["accuracy"],
        max(cell["accuracy_curve"]),
    )


def _words(share: float | None) -> str:
    return f"{'-':>6}" if share is None else f"{share:>6.3f}"


if __name__ == "__main__":
    main()
