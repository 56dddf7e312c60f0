"""The assumption under ODD, never tested in the talk: is the loss higher where labels disagree?

    ERRATA_DATA=DIR python benchmarks/loss_entropy.py

DIR holds `cifar10/`, `cifar10n/` and, where they are there, `cifar10h/` and `cifar10n_pred_probs/`.
The entropy of a row is that of the labels people gave it: three of them for the training rows of
CIFAR-10 (CIFAR-10N), about fifty for the test rows (CIFAR-10H). Losses of training rows are those
by which ODD judges: training mode, mean of the two epochs before epoch 24 of 60, 10,000 rows,
`conv`, flip. Losses of test rows are those of the same nets in evaluation mode. A third set of
losses comes from published held-out predictions of a better net, all 50,000 rows.

Finished trainings are kept in `benchmarks/loss_entropy.json`; the figure is
`docs/img/loss-entropy.svg`. Takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from odd_claims import AT, RECENT, Cell, Enough, LossLog, origin, save, schedule_of
from odd_figures import write

from errata.data import Augment, Relabelled, open_source
from errata.engine import Listener, fit
from errata.engine.testing import test_feed
from errata.measures import auroc
from errata.report.svg import svg, text

ROWS = 10_000
Numbers = dict[str, Any]


def entropy(shares: np.ndarray) -> np.ndarray:
    """Give the entropy [nats] of label distributions [N, C]."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Give ranks [N]; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def spearman(left: np.ndarray, right: np.ndarray) -> float | None:
    """Give the rank correlation; None where one side never varies."""
    a, b = ranks(left), ranks(right)
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)


def quartiles(losses: np.ndarray) -> list[float]:
    return np.round(np.quantile(losses, [0.05, 0.25, 0.5, 0.75, 0.95]), 4).tolist()


def people(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give the three labels of every training row [50000, 3], and the true ones [50000]."""
    packed = np.load(data / "cifar10n" / "cifar10n.npz", allow_pickle=False)
    three = np.stack([packed[f"random_label{k}"] for k in (1, 2, 3)], 1).astype(np.int64)
    return three, packed["clean_label"].astype(np.int64)


def against_three(
    losses: np.ndarray, given: np.ndarray, three: np.ndarray, clean: np.ndarray
) -> Numbers:
    """Hold losses of given labels against how far three people agreed."""
    shares = np.eye(10)[three].mean(1)
    spread, wrong = entropy(shares), given != clean
    told: Numbers = {"rows": len(given), "wrong": round(float(wrong.mean()), 4)}
    told["rho"] = spearman(losses, spread)
    told["rho_right"] = spearman(losses[~wrong], spread[~wrong])
    told["rho_wrong"] = spearman(losses[wrong], spread[wrong])
    told["auroc_loss"] = round(auroc(losses, wrong), 4)
    told["auroc_entropy"] = round(auroc(spread, wrong), 4)
    distinct = (shares > 0).sum(1)
    told["by_labels"] = [
        {
            "labels": k,
            "wrong_given": bool(bad),
            "rows": int(here.sum()),
            "loss": quartiles(losses[here]),
        }
        for k in (1, 2, 3)
        for bad in (False, True)
        if (here := (distinct == k) & (wrong == bad)).sum() > 20
    ]
    return told


def against_votes(log_probs: np.ndarray, labels: np.ndarray, votes: np.ndarray) -> Numbers:
    """Hold losses of test rows against the entropy of some fifty votes."""
    spread = entropy(votes)
    losses = -log_probs[np.arange(len(labels)), labels]
    expected = -(votes * log_probs).sum(1)
    right = log_probs.argmax(1) == labels
    edges = np.linspace(0, 1.2, 13)
    place = np.clip(np.digitize(spread, edges) - 1, 0, len(edges) - 1)
    return {
        "rows": len(labels),
        "accuracy": round(float(right.mean()), 4),
        "rho": spearman(losses, spread),
        "rho_predicted_right": spearman(losses[right], spread[right]),
        "rho_of_expected_loss": spearman(expected, spread),
        "rho_beyond_entropy": spearman(expected - spread, spread),
        "bins": [
            {
                "entropy": round(float(edges[k]), 2),
                "rows": int(here.sum()),
                "loss": quartiles(losses[here]),
            }
            for k in range(len(edges))
            if (here := place == k).sum() > 20
        ],
    }


def train(name: str, data: Path, column: str | None) -> Numbers:
    """Train on 10,000 rows up to where ODD drops, and hold the losses against entropies."""
    opened = open_source(f"cifar10n:{data}/cifar10n", column="random_label1", limit=ROWS)
    source = opened.train
    three, clean = (values[:ROWS] for values in people(data))
    if column is None:
        source = Relabelled(source, clean)
    log = LossLog()

    def on_epoch(record: Numbers) -> None:
        if record["epoch"] == AT - 1:
            raise Enough

    began = time.process_time()
    with suppress(Enough):
        fit(
            (schedule_of(Cell(name, "")),),
            source,
            model="conv",
            augment=Augment.parse("flip"),
            observers=(log,),
            listener=Listener(on_epoch),
        )
    losses = log.given[AT - RECENT : AT].mean(0)
    told: Numbers = {"training rows": {}}
    if column is None:
        # The label is right everywhere: is its loss higher where people disagreed?
        told["training rows"] = {"rho": spearman(losses, entropy(np.eye(10)[three].mean(1)))}
    else:
        told["training rows"] = against_three(losses, source.given, three, clean)
        # The two labels that training never saw, so that nothing is counted on both sides.
        apart = (three[:, 1] != three[:, 2]).astype(float)
        told["training rows"]["rho_other_two"] = spearman(losses, apart)
    votes = data / "cifar10h" / "cifar10h-probs.npy"
    if votes.exists():
        test = opened.tests["test"]
        feed = test_feed(log.run, test)
        logits, _ = log.run.predict(0, feed, torch.arange(len(test.ids)))
        log_probs = logits.double().log_softmax(1).cpu().numpy()
        told["test rows"] = against_votes(log_probs, test.given, np.load(votes, allow_pickle=False))
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    return told


def published(data: Path) -> Numbers:
    """Hold losses by held-out predictions of a better net against the three labels."""
    told: Numbers = {}
    three, clean = people(data)
    packed = np.load(data / "cifar10n" / "cifar10n.npz", allow_pickle=False)
    for kind in ("worst", "aggre"):
        path = data / "cifar10n_pred_probs" / f"{kind}_swin.npz"
        if path.exists():
            probs = np.load(path, allow_pickle=False)["pred_probs"].astype(np.float64)
            given = packed[f"{kind}_label"].astype(np.int64)
            losses = -np.log(np.maximum(probs[np.arange(len(given)), given], 1e-12))
            told[f"Swin, held out, {kind}"] = against_three(losses, given, three, clean)
    return told


def draw(kept: Numbers, folder: Path) -> None:
    """Draw boxes for three labels and for votes, losses on a log axis."""
    low, high, height, top = -3.0, 1.3, 230, 70
    bottom = top + height

    def y_of(loss: float) -> float:
        share = (np.log10(max(loss, 10**low)) - low) / (high - low)
        return round(bottom - min(float(share), 1.0) * height, 1)

    def drawn(x: float, wide: float, loss: list[float], style: str) -> str:
        y, middle = [y_of(value) for value in loss], round(x + wide / 2, 1)
        box = f"M{x} {y[1]}h{wide}V{y[3]}h-{wide}zM{x} {y[2]}h{wide}"
        lines = f"M{middle} {y[1]}V{y[0]}M{middle} {y[3]}V{y[4]}"
        return f'<path class="group {style}" d="{box}{lines}"/>'

    noisy = kept["trained on random_label1"]
    parts: list[str] = []
    for place, (style, words) in enumerate((("right", "right labels"), ("wrong", "wrong labels"))):
        parts.append(f'<path class="group {style}" d="M{60 + 150 * place} 24v-10h22v10z"/>')
        parts.append(text(92 + 150 * place, 24, words, "name"))
    panels = (
        (60, 330, f"loss [nats]; CIFAR-10N, rho {noisy['training rows']['rho']:.2f}"),
        (460, 440, f"loss [nats]; CIFAR-10H, rho {noisy['test rows']['rho']:.2f}"),
    )
    for left, wide, title in panels:
        parts.append(text(left, 54, title, "title"))
        for power in range(-3, 2):
            y = y_of(10.0**power)
            parts.append(f'<path class="grid" d="M{left} {y}h{wide}"/>')
            parts.append(text(left - 7, y + 4, f"{10.0**power:g}", "tick end"))
        parts.append(f'<path class="axis" d="M{left} {bottom}h{wide}"/>')
    for each in noisy["training rows"]["by_labels"]:
        middle = 60 + 330 * (each["labels"] - 0.5) / 3
        x = round(middle + (4 if each["wrong_given"] else -34), 1)
        parts.append(drawn(x, 30, each["loss"], "wrong" if each["wrong_given"] else "right"))
    for k, words in enumerate(("all three agree", "two agree", "none agree")):
        parts.append(text(60 + 110 * (k + 0.5), bottom + 17, words, "tick middle"))
    for each in noisy["test rows"]["bins"]:
        x = round(460 + 440 * each["entropy"] / 1.3, 1)
        parts.append(drawn(x + 4, 25, each["loss"], "right"))
        if round(10 * each["entropy"]) % 3 == 0:
            parts.append(text(x, bottom + 17, f"{each['entropy']:g}", "tick middle"))
    parts.append(text(225, bottom + 38, "labels of three people", "tick middle"))
    parts.append(text(680, bottom + 38, "entropy of about 50 votes [nats]", "tick middle"))
    label = "Losses by how far people agreed on the label; boxes are quartiles, lines 5 to 95 %."
    write(folder, "loss-entropy.svg", svg(930, bottom + 52, label, parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/loss_entropy.json"))
    parser.add_argument("--img", type=Path, default=Path("docs/img"))
    args = parser.parse_args()
    data = Path(os.environ.get("ERRATA_DATA", "../shared/data"))
    stored: Numbers = {"results": {}, "made": {}}
    stored |= json.loads(args.json.read_text()) if args.json.exists() else {}
    kept = stored["results"]
    for name, column in (
        ("trained on random_label1", "random_label1"),
        ("trained on true labels", None),
    ):
        if name not in kept:
            kept[name] = train(name, data, column)
            stored["made"] = origin()
            save(args.json, stored)
    kept |= published(data)
    save(args.json, stored)
    draw(kept, args.img)
    for name, told in kept.items():
        print(name, json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
