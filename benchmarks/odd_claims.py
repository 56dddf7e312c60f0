"""The claims of the talk of ODD, measured: losses of wrong labels, real and simulated.

    ERRATA_DATA=DIR python benchmarks/odd_claims.py --minutes 30

DIR holds `fashion_mnist/`, `cifar10/` and `cifar10n/`. Finished cells are kept in
`benchmarks/odd_claims.json`, so that the command goes on where it stopped; figures are drawn into
`docs/img/` whenever it ends. What is wrong is read from planted or published truth, here alone.

The protocol is that of the suite `fashion-10k`: 10,000 rows, `conv`, flip, batches of 128, cosine
from .1 over 60 epochs. Losses are those by which ODD judges: in training mode, averaged over the
last two epochs before epoch 24. Training stops there, but for one run that goes on to the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from odd_figures import claims_figures
from provenance import made, versions
from torch import nn

from errata.data import Augment, Subset, open_source, plant_noise
from errata.engine import Listener, TrainingRun, fit
from errata.engine.evaluate import removed_report
from errata.measures import auroc
from errata.methods.odd import loss_variance_of_head, simulate_losses
from errata.methods.odd_features import permuted_columns, plain_normals
from errata.models import build_model
from errata.observe import Observer
from errata.parts.base import OptimizerSpec, Stage
from errata.parts.dropping import LEAST_LOSS, above_threshold, percentile_of
from errata.phantoms import draw_phantoms
from errata.report.histogram_figure import count_losses, log_edges
from errata.streams import generator

# Tolerances, written down before anything was measured.
SHARE_KS, SHARE_MEDIAN = 0.15, 0.15
"""Claim 1: at 20 % and 40 % the losses of wrong labels are alike: their distribution functions
differ by at most so much anywhere, and their medians by at most so large a share."""
APART_KS = 0.60
"""Claim 2: losses of wrong and of right labels differ by at least so much somewhere."""
SIMULATED_KS, SIMULATED_MEDIAN = 0.20, 0.20
"""Claim 3: simulated losses are like those of wrong labels, in the measures of claim 1."""
FALL, SETTLED = 0.10, 5
"""Claim 4: at a learning rate of .1 the mean loss of wrong labels falls by at most this share from
epoch 5 (the classes are learned by then) to the last, and by less than at .01 and .001."""

RESULTS = Path("benchmarks/odd_claims.json")
ROWS, EPOCHS, AT, RECENT, DRAWS = 10_000, 60, 24, 2, 100_000
PERCENTILES = (2.5, 5.0, 10.0, 20.0, 30.0)
EDGES = log_edges()
PER_CLASS = "per-class:0.6,0.0,0.5,0.1,0.4,0.2,0.35,0.25,0.3,0.3"

Numbers = dict[str, Any]


def silu(shape: tuple[int, ...], classes: int) -> nn.Module:
    """`conv` with SiLU in place of ReLU: features may be a little below nought."""
    net = build_model("conv", shape, classes)
    for name, module in list(net.body.named_children()):
        if isinstance(module, nn.ReLU):
            setattr(net.body, name, nn.SiLU())
    return net


def layer_norm(shape: tuple[int, ...], classes: int) -> nn.Module:
    """`conv` with a LayerNorm without learned scale between body and head."""
    net = build_model("conv", shape, classes)
    net.body.append(nn.LayerNorm(net.head.in_features, elementwise_affine=False))
    return net


BODIES = {"relu": partial(build_model, "conv"), "silu": silu, "layer norm": layer_norm}
"""Nets whose features are rectified, nearly rectified and standardised."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        noise: What is planted on Fashion-MNIST, or a column of CIFAR-10N.
        stop: Epochs to train, of `epochs` that the schedule is made for.
        body: What the features come out of: a key of `BODIES`.
    """

    name: str
    noise: str
    stop: int = AT
    epochs: int = EPOCHS
    lr: float = 0.1
    schedule: str = "cosine"
    body: str = "relu"


CELLS = (
    Cell("uniform 40 %", "uniform:0.4", stop=EPOCHS),
    Cell("uniform 20 %", "uniform:0.2"),
    Cell("no noise", "uniform:0"),
    Cell("asymmetric 40 %", "asymmetric:0.4"),
    Cell("per class, mean 30 %", PER_CLASS),
    Cell("CIFAR-10N aggregate", "aggre_label"),
    Cell("CIFAR-10N worst", "worst_label"),
    *(
        Cell(f"constant {lr}", "uniform:0.4", stop=40, epochs=40, lr=lr, schedule="constant")
        for lr in (0.1, 0.01, 0.001)
    ),
    *(Cell(f"features of {body}", "uniform:0.4", body=body) for body in BODIES),
)


class Enough(Exception):  # noqa: N818  (it ends a training; it is no error)
    """Stops a training that has shown what it was asked."""


class LossLog(Observer):
    """Losses of given and of never-trained labels in every epoch, and what the head predicts."""

    def __deepcopy__(self, memo: Any) -> LossLog:
        # A run copies its observers, and this one has to report to its caller.
        return self

    def open(self, run: TrainingRun) -> None:
        """Make room, and draw the labels that are never trained on."""
        self.run = run
        epochs = sum(stage.epochs for stage in run.program)
        self.given = np.full((epochs, run.num_rows), np.nan, dtype=np.float32)
        self.phantom = self.given.copy()
        self.labels = draw_phantoms(run.given, run.classes, generator(run.seed, "phantom"))

    def step(self, run: TrainingRun, seen: Mapping[int, Any]) -> None:
        """Keep the losses of a batch."""
        batch = seen[0].plain
        log_probs = seen[0].logits.detach().log_softmax(1)
        rows = batch.rows.cpu().numpy()
        for kept, labels in ((self.given, batch.given), (self.phantom, self.labels[batch.rows])):
            kept[run.epoch, rows] = -log_probs.gather(1, labels[:, None])[:, 0].cpu().numpy()

    def simulate(self, draws: int = DRAWS, **values: Any) -> torch.Tensor:
        """Simulate losses through the head as it is now."""
        head = self.run.head(0)
        rng = generator(0, "odd")
        return simulate_losses(head.weight, head.bias, draws=draws, generator=rng, **values)


def open_cell(cell: Cell) -> tuple[Any, Any]:
    """Give training rows and their truth."""
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    if ":" not in cell.noise:
        opened = open_source(f"cifar10n:{data}/cifar10n", column=cell.noise, limit=ROWS)
        return opened.train, opened.truth
    opened = open_source(f"fashion-mnist:{data}/fashion_mnist", limit=ROWS)
    planted = plant_noise(Subset(opened.train, np.arange(ROWS)), cell.noise, seed=0)
    return planted.source, planted.truth


def measure(cell: Cell) -> Numbers:
    """Train a cell and describe its losses."""
    source, truth = open_cell(cell)
    wrong = source.given != truth.clean
    log = LossLog()
    per_epoch: list[Numbers] = []
    found: Numbers = {}

    def on_epoch(record: Numbers) -> None:
        done = record["epoch"] + 1
        simulated = log.simulate(20_000)
        means = {"right": log.given[done - 1][~wrong].mean(), "lr": record["lr"]}
        means |= {"phantom": log.phantom[done - 1].mean(), "simulated": simulated.mean()}
        means |= {"wrong": log.given[done - 1][wrong].mean()} if wrong.any() else {}
        per_epoch.append({key: round(float(value), 5) for key, value in means.items()})
        if cell.schedule == "cosine" and done >= RECENT:
            judged = judge(log.given[done - RECENT : done].mean(0), source, truth, simulated)
            per_epoch[-1]["odd"] = judged
        if cell.schedule == "cosine" and done == AT:
            found.update(describe(log, source, truth))
        if done == cell.stop:
            raise Enough

    began = time.process_time()
    with suppress(Enough):
        fit(
            (schedule_of(cell),),
            source,
            model=partial(BODIES[cell.body], source.shape, len(source.classes)),
            augment=Augment.parse("flip"),
            observers=(log,),
            listener=Listener(on_epoch),
        )
    return {
        "noise": cell.noise,
        "rows": len(wrong),
        "wrong": round(float(wrong.mean()), 4),
        "epochs": per_epoch,
        "cpu_seconds": round(time.process_time() - began, 1),
        **found,
    }


def schedule_of(cell: Cell) -> Stage:
    """Give the stage of a cell."""
    optimizer = OptimizerSpec(lr=cell.lr, schedule=cell.schedule)  # type: ignore[arg-type]
    return Stage(epochs=cell.epochs, batch=128, optimizer=optimizer)


def judge(losses: np.ndarray, source: Any, truth: Any, simulated: torch.Tensor) -> Numbers:
    """Say what ODD would drop here and now, for several percentiles."""
    judged = {}
    for percentile in PERCENTILES:
        threshold = max(percentile_of(simulated, percentile), LEAST_LOSS)
        chosen = above_threshold(
            torch.from_numpy(losses), torch.from_numpy(source.given), threshold
        ).numpy()
        report = removed_report(truth, source.given, chosen)
        keys = ("share", "precision", "recall")
        values = [None if report[key] is None else round(report[key], 4) for key in keys]
        judged[f"{percentile:g}"] = [round(threshold, 4), *values]
    return judged


def describe(log: LossLog, source: Any, truth: Any) -> Numbers:
    """Describe the losses of every group at the epoch of the drop."""
    window = slice(AT - RECENT, AT)
    given, phantom = log.given[window].mean(0), log.phantom[window].mean(0)
    wrong = source.given != truth.clean
    features = log.run.sweep(0)[1]
    assert features is not None
    groups = {
        "right": given[~wrong],
        "wrong": given[wrong],
        "phantom": phantom,
        "simulated": log.simulate().numpy(),
        "permuted": log.simulate(draw_features=permuted_columns(features)).numpy(),
        "identity": log.simulate(draw_features=plain_normals(features.shape[1])).numpy(),
    }
    groups = {name: losses for name, losses in groups.items() if len(losses)}
    told: Numbers = {
        "groups": {
            name: {
                "counts": count_losses(losses, EDGES).tolist(),
                "quantiles": np.round(
                    np.quantile(losses, [0.05, 0.25, 0.5, 0.75, 0.95]), 4
                ).tolist(),
                "mean": round(float(losses.mean()), 4),
            }
            for name, losses in groups.items()
        },
        "diagnostic": {
            "variance": round(loss_variance_of_head(log.run.head(0).weight), 4),
            "feature_mean": round(float(features.mean()), 4),
            "feature_variance": round(float(features.float().var(0).mean()), 4),
        },
        "per_class": per_class(given, source, truth, groups["simulated"]),
        "nulls": {
            name: judge(given, source, truth, torch.from_numpy(groups[name]))["20"]
            for name in ("simulated", "permuted", "identity", "phantom")
        },
    }
    if wrong.any():
        told["auroc"] = round(auroc(given, wrong), 4)
        others = ("right", "phantom", "simulated", "permuted", "identity")
        told["ks"] = {name: round(ks(groups[name], groups["wrong"]), 4) for name in others}
        # Kept, so that the distributions of two cells can be compared.
        told["wrong_losses"] = np.round(
            np.quantile(groups["wrong"], np.linspace(0, 1, 401)), 4
        ).tolist()
    return told


def per_class(given: np.ndarray, source: Any, truth: Any, simulated: np.ndarray) -> list[Numbers]:
    """Say for each given class which share is wrong, and which share of it ODD would drop."""
    threshold = max(percentile_of(torch.from_numpy(simulated), 20.0), LEAST_LOSS)
    rows = []
    for label, name in enumerate(source.classes):
        own = source.given == label
        wrong = truth.clean[own] != label
        gone = given[own] > threshold
        rows.append(
            {
                "class": name,
                "wrong": round(float(wrong.mean()), 4),
                "dropped": round(float(gone.mean()), 4),
                "right_dropped": round(float(gone[~wrong].mean()), 4),
                "wrong_kept": round(float((~gone[wrong]).mean()), 4) if wrong.any() else None,
            }
        )
    return rows


def ks(left: np.ndarray, right: np.ndarray) -> float:
    """Give the largest gap between two empirical distribution functions."""
    left, right = np.sort(left), np.sort(right)
    places = np.concatenate([left, right])
    shares = [np.searchsorted(side, places, side="right") / len(side) for side in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


def claims(cells: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Hold the numbers against the tolerances; a claim whose cells are missing is left out."""
    told: dict[str, Numbers] = {}

    def median(cell: str, group: str) -> float:
        return float(cells[cell]["groups"][group]["quantiles"][2])

    shares = ("uniform 20 %", "uniform 40 %")
    if all(cell in cells for cell in shares):
        few, many = (np.array(cells[cell]["wrong_losses"]) for cell in shares)
        gap = ks(few, many)
        off = abs(median(shares[1], "wrong") / median(shares[0], "wrong") - 1)
        held = gap <= SHARE_KS and off <= SHARE_MEDIAN
        told["1 share"] = {"ks": gap, "median_off": off, "held": held}
        apart = [cells[cell]["ks"]["right"] for cell in shares]
        told["2 apart"] = {"ks": apart, "held": min(apart) >= APART_KS}
        for null in ("simulated", "phantom", "permuted"):
            gaps = [cells[cell]["ks"][null] for cell in shares]
            offs = [median(cell, null) / median(cell, "wrong") - 1 for cell in shares]
            held = max(gaps) <= SIMULATED_KS and max(map(abs, offs)) <= SIMULATED_MEDIAN
            told[f"3 {null}"] = {"ks": gaps, "median_off": offs, "held": held}
    rates = ("constant 0.1", "constant 0.01", "constant 0.001")
    if all(cell in cells for cell in rates):
        falls = {}
        for cell in rates:
            means = [epoch["wrong"] for epoch in cells[cell]["epochs"]]
            falls[cell] = 1 - means[-1] / means[SETTLED - 1]
        first, *others = falls.values()
        hardly, least = first <= FALL, first < min(others)
        told["4 rate"] = {"falls": falls, "hardly": hardly, "least": least}
        told["4 rate"]["held"] = hardly and least
    return json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 4))


def save(path: Path, kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Write results with one line for each cell, so that differences can be read."""
    parts = []
    for section, entries in kept.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(e)}" for name, e in entries.items())
        parts.append(f"{json.dumps(section)}: {{\n{lines}\n}}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def origin(seed: int = 0) -> Numbers:
    """Say when and where numbers are made, from which seed and with what versions."""
    return {**made(), "seed": seed, "versions": versions("errata", "numpy", "torch")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no cell after them")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--img", type=Path, default=Path("docs/img"))
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    kept = json.loads(args.json.read_text()) if args.json.exists() else {"cells": {}}
    cells = kept["cells"]
    for cell in CELLS:
        if cell.name in cells or time.monotonic() > until:
            continue
        print(f"{cell.name} ...", flush=True)
        cells[cell.name] = measure(cell)
        save(args.json, {"cells": cells, "claims": claims(cells), "made": origin()})
        print(f"  {cells[cell.name]['cpu_seconds']:.0f} CPU seconds", flush=True)
    claims_figures(cells, EDGES, args.img)
    for name, told in claims(cells).items():
        print(name, told)


if __name__ == "__main__":
    main()
