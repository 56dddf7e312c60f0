"""Figures of the scripts `odd_claims`, `odd_toy` and `loss_entropy`, as SVG files without ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from errata.report.histogram_figure import LossGroup, LossPanel, loss_panels, standalone
from errata.report.svg import nice_ticks, svg, text

STYLE = """
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dot { stroke: #fbfaf7; }
.c1 { stroke: #b3261e; } .c2 { stroke: #4b6f9c; } .c3 { stroke: #1d1c1a; }
.c4 { stroke: #8a5300; stroke-dasharray: 6 4; } .c5 { stroke: #6b8e4e; }
.dot.c1 { fill: #b3261e; } .dot.c2 { fill: #4b6f9c; } .dot.c3 { fill: #1d1c1a; }
.dot.c4 { fill: #8a5300; } .dot.c5 { fill: #6b8e4e; }
""".replace("\n", " ").strip()

NAMES = {
    "right": "right labels",
    "wrong": "wrong labels",
    "simulated": "simulated",
    "phantom": "phantom (never trained)",
}
WIDTH, HEIGHT, GAP = 290, 170, 58


@dataclass(frozen=True)
class Curve:
    """One line; points that are None or NaN are left out."""

    name: str
    style: str
    xs: Sequence[float]
    ys: Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """One set of axes with curves.

    Attributes:
        marks: Places on the horizontal axis to mark, and what they are.
    """

    title: str
    curves: Sequence[Curve]
    low: float
    high: float
    unit: str = "epoch"
    percent: bool = False
    marks: Sequence[tuple[float, str]] = ()


def curve_panels(panels: Sequence[Panel], *, label: str, columns: int = 3) -> str:
    """Draw panels in rows; one legend stands above all of them."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    head, step = 44, HEIGHT + 96
    parts, x = [], float(GAP)
    for name, style in dict.fromkeys((c.name, c.style) for p in panels for c in p.curves):
        parts.append(f'<path class="line {style}" d="M{x} 20H{x + 26}"/>')
        parts.append(text(x + 34, 24, name, "name"))
        x = round(x + 62 + 7.2 * len(name), 1)
    for place, panel in enumerate(panels):
        left = GAP + place % columns * (WIDTH + GAP)
        parts += _curve_panel(panel, left, head + place // columns * step)
    return svg(GAP + columns * (WIDTH + GAP), head + rows * step, label, parts)


def _curve_panel(panel: Panel, left: float, top: float) -> list[str]:
    head, bottom = top + 40, top + 40 + HEIGHT
    first = min(x for curve in panel.curves for x in curve.xs)
    last = max(x for curve in panel.curves for x in curve.xs)

    def x_of(value: float) -> float:
        return round(left + (value - first) / (last - first) * WIDTH, 1)

    def y_of(value: float) -> float:
        share = (value - panel.low) / (panel.high - panel.low)
        return round(bottom - min(max(share, 0.0), 1.0) * HEIGHT, 1)

    parts = [text(left, top + 16, panel.title, "title")]
    for tick in nice_ticks(panel.low, panel.high):
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y}" y2="{y}"/>')
        words = f"{100 * tick:g} %" if panel.percent else f"{tick:g}"
        parts.append(text(left - 7, y + 4, words, "tick end"))
    for tick in nice_ticks(first, last, 5):
        parts.append(text(x_of(tick), bottom + 17, f"{tick:g}", "tick middle"))
    parts.append(f'<path class="axis" d="M{left} {bottom}h{WIDTH}"/>')
    for place, words in panel.marks:
        x = x_of(place)
        parts.append(f'<path class="threshold" d="M{x} {head - 4}V{bottom}"/>')
        parts.append(text(x + 5, head + 8, words, "name"))
    for curve in panel.curves:
        points = [
            f"{x_of(x)},{y_of(y)}"
            for x, y in zip(curve.xs, curve.ys, strict=True)
            if y is not None and np.isfinite(y)
        ]
        parts.append(f'<polyline class="line {curve.style}" points="{" ".join(points)}"/>')
    parts.append(text(left + WIDTH / 2, bottom + 36, panel.unit, "tick middle"))
    return parts


def write(folder: Path, name: str, figure: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(standalone(figure, style=STYLE), encoding="utf-8")


def claims_figures(cells: Mapping[str, Any], edges: np.ndarray, folder: Path) -> None:
    """Draw what `odd_claims` has measured so far."""
    _histograms(cells, edges, folder, "odd-claims.svg", ("uniform 20 %", "uniform 40 %"))
    rest = ("no noise", "asymmetric 40 %", "per class, mean 30 %")
    rest += ("CIFAR-10N aggregate", "CIFAR-10N worst")
    _histograms(cells, edges, folder, "odd-practice.svg", rest)
    _rates(cells, folder)
    _when(cells, folder)


def _histograms(
    cells: Mapping[str, Any], edges: np.ndarray, folder: Path, name: str, wanted: Sequence[str]
) -> None:
    panels = []
    for cell in (cell for cell in wanted if cell in cells):
        told = cells[cell]
        groups = [
            LossGroup(NAMES[style], style, np.array(told["groups"][style]["counts"]))
            for style in NAMES
            if style in told["groups"]
        ]
        threshold = told["epochs"][23]["odd"]["20"][0]
        title = f"{cell}: {100 * told['wrong']:.1f} % of the labels are wrong"
        panels.append(LossPanel(title, groups, (threshold, f"dropped above {threshold:.2f}")))
    if panels:
        label = "Histograms of losses of right, wrong, simulated and never-trained labels."
        write(folder, name, loss_panels(edges, panels, label=label))


def _rates(cells: Mapping[str, Any], folder: Path) -> None:
    wanted = ("constant 0.1", "constant 0.01", "constant 0.001", "uniform 40 %")
    panels = []
    for cell in (cell for cell in wanted if cell in cells):
        epochs = cells[cell]["epochs"]
        xs = range(1, len(epochs) + 1)
        styles = {"wrong": "c1", "right": "c2", "simulated": "c3", "phantom": "c4"}
        curves = [
            Curve(NAMES[key], styles[key], xs, [epoch[key] for epoch in epochs]) for key in styles
        ]
        title = f"learning rate {cell.split()[1]}" if "constant" in cell else "cosine from 0.1 to 0"
        marks = () if "constant" in cell else ((24, "drop"),)
        panels.append(Panel(f"mean loss [nats], {title}", curves, 0, 4.5, marks=marks))
    if panels:
        label = "Mean loss of wrong, right, simulated and never-trained labels per epoch."
        write(folder, "odd-rates.svg", curve_panels(panels, label=label, columns=2))


def _when(cells: Mapping[str, Any], folder: Path) -> None:
    if "uniform 40 %" not in cells:
        return
    epochs = cells["uniform 40 %"]["epochs"]
    xs = [place + 1 for place, epoch in enumerate(epochs) if "odd" in epoch]
    panels = []
    for which, words in ((2, "precision"), (3, "recall"), (1, "share dropped")):
        curves = [
            Curve(f"p = {p}", style, xs, [epochs[x - 1]["odd"][p][which] for x in xs])
            for p, style in (("5", "c1"), ("10", "c4"), ("20", "c3"), ("30", "c2"))
        ]
        panels.append(Panel(words, curves, 0, 1, "epoch of the drop", percent=True))
    label = "Precision, recall and share of dropped rows by the epoch of the drop and percentile."
    write(folder, "odd-when.svg", curve_panels(panels, label=label))
