"""Why ODD removes rows rather than weighing them down: two toys in the plane.

    python benchmarks/odd_toy.py

1. The talk's figure (after Byrd and Lipton 2019, arXiv:1812.03372): two classes weighted 10:1, 1:1
   and 1:10, a net with far more weights than points, trained long. What is measured is the share of
   the plane whose label depends on the weighting, as training goes on; a net held back by weight
   decay is the control.
2. The argument itself: one label in ten is wrong, and the wrong points are weighed down by 2, 10
   and 100 or removed. What is measured is the share of the plane labelled as by a net that got the
   right labels, and the share of wrong labels learned by heart.

Only places within .5 of a point count: far away from all data any label is as good as another.
Takes about four minutes on one core. Numbers go to `benchmarks/odd_toy.json`, figures to
`docs/img/`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from odd_figures import Curve, Panel, curve_panels, write
from provenance import made, versions
from torch import Tensor, nn

from errata.report.svg import svg, text

POINTS, WRONG, WIDTH, STEPS, LR, DECAY = 60, 12, 128, 10_000, 0.1, 0.03
LOOKS = (10, 30, 100, 300, 1000, 3000, 10_000)
GRID, NEAR = 121, 0.5
LEFT, RIGHT, LOW, HIGH = -1.8, 2.8, -1.6, 2.1
CLASS_WEIGHTS = {"10:1": (10.0, 1.0), "1:1": (1.0, 1.0), "1:10": (1.0, 10.0)}
ROW_WEIGHTS = {"plain": 1.0, "by 2": 0.5, "by 10": 0.1, "by 100": 0.01, "removed": 0.0}
SEEDS = (0, 1, 2)


def moons(seed: int, spread: float = 0.15) -> tuple[Tensor, Tensor]:
    """Draw two half circles [2 POINTS, 2] that reach into each other, and their labels."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, (2, POINTS))
    upper = np.stack([np.cos(angle[0]), np.sin(angle[0])], 1)
    lower = np.stack([1 - np.cos(angle[1]), 0.5 - np.sin(angle[1])], 1)
    points = np.concatenate([upper, lower]) + rng.normal(0, spread, (2 * POINTS, 2))
    return torch.from_numpy(points).float(), torch.arange(2 * POINTS) // POINTS


def plane() -> Tensor:
    x, y = torch.linspace(LEFT, RIGHT, GRID), torch.linspace(LOW, HIGH, GRID)
    return torch.cartesian_prod(x, y)


@dataclass(frozen=True)
class Trained:
    """What one training shows, after each number of steps in `LOOKS`.

    Attributes:
        maps: Logit difference over the plane [GRID, GRID].
        predicted: Class of each point.
    """

    maps: dict[int, Tensor]
    predicted: dict[int, Tensor]


def train(
    points: Tensor, labels: Tensor, weights: Tensor, *, decay: float = 0.0, seed: int = 0
) -> Trained:
    """Train on all points at every step; those of weight 0 are left out of the mean."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    )
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=decay)
    # Weights that sum to one, so that the learning rate means the same for all of them.
    weights = weights / weights.sum()
    where, told = plane(), Trained({}, {})
    for step in range(1, STEPS + 1):
        losses = nn.functional.cross_entropy(net(points), labels, reduction="none")
        optimizer.zero_grad()
        (weights * losses).sum().backward()
        optimizer.step()
        if step in LOOKS:
            with torch.no_grad():
                logits = net(where)
                told.maps[step] = (logits[:, 1] - logits[:, 0]).reshape(GRID, GRID)
                told.predicted[step] = net(points).argmax(1)
    return told


def changed(left: Tensor, right: Tensor, points: Tensor) -> float:
    """Give the share of the plane near the points whose label differs."""
    near = torch.cdist(plane(), points).amin(1).reshape(GRID, GRID) <= NEAR
    return float(((left > 0) != (right > 0))[near].float().mean())


def weigh_classes() -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the first toy; give its numbers, and the maps of seed 0 for the figure."""
    told: dict[str, Any] = {"looks": LOOKS, "changed": {}, "fits": {}}
    drawn: dict[str, Any] = {}
    for name, decay in (("trained long", 0.0), ("weight decay", DECAY)):
        gaps, fits = [], []
        for seed in SEEDS:
            points, labels = moons(seed)
            runs = {
                words: train(points, labels, torch.tensor(pair)[labels], decay=decay, seed=seed)
                for words, pair in CLASS_WEIGHTS.items()
            }
            maps = {words: run.maps for words, run in runs.items()}
            gaps.append([changed(maps["10:1"][k], maps["1:10"][k], points) for k in LOOKS])
            fits.append(
                [float((r.predicted[STEPS] == labels).float().mean()) for r in runs.values()]
            )
            drawn.setdefault(name, (points, labels, maps))
        told["changed"][name] = np.round(np.mean(gaps, 0), 4).tolist()
        told["fits"][name] = dict(zip(CLASS_WEIGHTS, np.round(np.mean(fits, 0), 4), strict=True))
    return told, drawn


def weigh_wrong_rows() -> dict[str, Any]:
    """Train the second toy and give its numbers."""
    right: dict[str, list[list[float]]] = {name: [] for name in ROW_WEIGHTS}
    learned: dict[str, list[list[float]]] = {name: [] for name in ROW_WEIGHTS}
    for seed in SEEDS:
        points, clean = moons(seed)
        wrong = torch.zeros(len(clean), dtype=torch.bool)
        wrong[torch.randperm(len(clean), generator=torch.Generator().manual_seed(seed))[:WRONG]] = (
            True
        )
        given = torch.where(wrong, 1 - clean, clean)
        truth = train(points, clean, torch.ones(len(clean)), seed=seed).maps[STEPS]
        for name, weight in ROW_WEIGHTS.items():
            run = train(points, given, torch.where(wrong, weight, 1.0), seed=seed)
            right[name].append([1 - changed(run.maps[k], truth, points) for k in LOOKS])
            heart = [(run.predicted[k] == given)[wrong].float().mean() for k in LOOKS]
            learned[name].append([float(share) for share in heart])
    return {
        "looks": LOOKS,
        "wrong": WRONG / (2 * POINTS),
        "right": {name: np.round(np.mean(v, 0), 4).tolist() for name, v in right.items()},
        "by_heart": {name: np.round(np.mean(v, 0), 4).tolist() for name, v in learned.items()},
    }


def boundary(field: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Trace where a map [GRID, GRID] is nought, as short lines in units of grid cells."""
    lines = []
    for i in range(GRID - 1):
        for j in range(GRID - 1):
            corners = ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1))
            values = [float(field[corner]) for corner in corners]
            found = []
            for k in range(4):
                (a, b), u, v = (corners[k], corners[(k + 1) % 4]), values[k], values[(k + 1) % 4]
                if (u > 0) != (v > 0):
                    share = u / (u - v)
                    found.append((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
            # A saddle has four crossings; two lines in either pairing draw it well enough.
            for first, second in zip(found[::2], found[1::2], strict=True):
                lines.append((*first, *second))
    return lines


def draw_boundaries(drawn: Mapping[str, Any], told: Mapping[str, Any], folder: Path) -> None:
    """Draw points and the three boundaries: early, trained long, and held back."""
    side, gap, head = 290, 34, 84
    shown: Sequence[tuple[str, str, int]] = (
        ("100 steps", "trained long", 100),
        ("10,000 steps", "trained long", STEPS),
        ("10,000 steps, weight decay", "weight decay", STEPS),
    )
    styles = {"10:1": "c1", "1:1": "c3", "1:10": "c2"}
    parts = []
    for place, (words, style) in enumerate(styles.items()):
        x = gap + place * 170
        parts.append(f'<path class="line {style}" d="M{x} 20h26"/>')
        parts.append(text(x + 34, 24, f"classes {words}", "name"))
    for place, (title, which, look) in enumerate(shown):
        points, labels, maps = drawn[which]
        left = gap + place * (side + gap)
        share = told["changed"][which][LOOKS.index(look)]
        parts.append(text(left, 54, title, "title"))
        parts.append(text(left, 72, f"{100 * share:.1f} % of the plane depends on them", "tick"))
        parts.append(
            f'<rect x="{left}" y="{head}" width="{side}" height="{side}" fill="none" class="axis"/>'
        )
        for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
            cx = round(left + (x - LEFT) / (RIGHT - LEFT) * side, 1)
            cy = round(head + (HIGH - y) / (HIGH - LOW) * side, 1)
            parts.append(
                f'<circle class="dot {("c1", "c2")[label]}" fill-opacity=".45" '
                f'cx="{cx}" cy="{cy}" r="3.5"/>'
            )
        for words, style in styles.items():
            unit = side / (GRID - 1)
            path = "".join(
                f"M{left + a * unit:.1f} {head + side - b * unit:.1f}"
                f"L{left + c * unit:.1f} {head + side - d * unit:.1f}"
                for a, b, c, d in boundary(maps[words][look].numpy())
            )
            parts.append(f'<path class="line {style}" d="{path}"/>')
    label = "Boundaries of nets trained with class weights 10:1, 1:1 and 1:10."
    width = gap + len(shown) * (side + gap)
    write(folder, "odd-toy.svg", svg(width, head + side + 18, label, parts))


def draw_curves(classes: Mapping[str, Any], rows: Mapping[str, Any], folder: Path) -> None:
    xs = np.log10(LOOKS).tolist()
    unit = "steps (log10)"
    first = [
        Curve(name, style, xs, classes["changed"][name])
        for name, style in (("trained long", "c1"), ("weight decay", "c2"))
    ]
    panel = Panel("share of the plane that class weights change", first, 0, 0.5, unit, percent=True)
    label = "Share of the plane whose label depends on class weights, over training."
    write(folder, "odd-toy-classes.svg", curve_panels([panel], label=label))
    styles = dict(zip(ROW_WEIGHTS, ("c3", "c4", "c5", "c1", "c2"), strict=True))
    panels = [
        Panel(
            title,
            [Curve(name, styles[name], xs, ys) for name, ys in rows[key].items()],
            *limits,
            unit,
            percent=True,
        )
        for title, key, limits in (
            ("plane labelled as with right labels only", "right", (0.7, 1.0)),
            ("wrong labels learned by heart", "by_heart", (0.0, 1.0)),
        )
    ]
    label = "What weighing wrong points down saves, over training."
    write(folder, "odd-toy-rows.svg", curve_panels(panels, label=label))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/odd_toy.json"))
    parser.add_argument("--img", type=Path, default=Path("docs/img"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    classes, drawn = weigh_classes()
    rows = weigh_wrong_rows()
    origin = {**made(), "seeds": list(SEEDS), "versions": versions("numpy", "torch")}
    told = {"classes": classes, "made": origin, "rows": rows}
    args.json.write_text(json.dumps(told, indent=1) + "\n")
    draw_boundaries(drawn, classes, args.img)
    draw_curves(classes, rows, args.img)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
