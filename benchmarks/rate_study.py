"""Tables of probabilities with planted errors, on which rules for the noise rate were made.

    ERRATA_DATA=DIR python benchmarks/rate_study.py [--tables FOLDER] [--only-measure]

Four sets of rows (MNIST, Fashion-MNIST, both together with 20 classes, digits), four models of
different strength and confidence, fifteen kinds of noise and none, five-fold cross-validation;
every table once as it is and once made too sure (squared). None of it is what
`benchmarks/published.py` tests. ``instance`` errs where an annotator who saw few rows is unsure,
``ambiguous`` where a good net of other rows is. Tables are kept in FOLDER and used again.
`benchmarks/rate_study.json` tells how far each rule for the rate is off, and how often tables that
are held out are warned of as in-sample, and in-sample ones are. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from errata.blocks import blocks_of
from errata.data.idx import read_idx_file
from errata.detect.how_many import DEFAULT_RULE, RULES, estimate_rate, read_rates
from errata.detect.one_pass import one_pass
from errata.machine import processor_name

SETS = ("mnist", "fashion_mnist", "both20", "digits")
NOISES = (
    *("none:0", "uniform:0.05", "uniform:0.2", "uniform:0.4", "asymmetric:0.1", "asymmetric:0.3"),
    *("class:0.2", "class:0.4", "instance:0.05", "instance:0.1", "instance:0.2", "instance:0.4"),
    *("ambiguous:0.05", "ambiguous:0.1", "ambiguous:0.2", "ambiguous:0.4"),
)
# Name: principal components (0: features of a net of other rows), hidden units (0: linear),
# epochs, weight decay.
MODELS = {
    "early": (50, 128, 8, 0.0),
    "long": (50, 128, 50, 0.0),
    "weak": (8, 32, 20, 0.0),
    "pretrained": (0, 0, 15, 1e-3),
}
ROWS, FOLDS, BATCH = 5000, 5, 128
SURE = (1.0, 2.0)
STRONG = 0.75


class Layers(NamedTuple):
    """Weights [F, I, O] and biases [F, 1, O] of F nets that are trained at once."""

    weights: list[Tensor]
    biases: list[Tensor]

    def logits(self, x: Tensor) -> Tensor:
        """Give the answers [F, B, C]."""
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x if place == 0 else x.relu(), weight)
        return x

    def hidden(self, x: Tensor) -> Tensor:
        """Give the hidden units [N, H] of the first net."""
        return torch.baddbmm(self.biases[0], x[None], self.weights[0]).relu()[0].detach()


class Rows(NamedTuple):
    """Rows [N, D], their classes, and other rows of the same kind."""

    x: Tensor
    y: np.ndarray
    other_x: Tensor | None
    other_y: np.ndarray | None


def train(
    x: Tensor,
    y: Tensor,
    own: list[np.ndarray],
    *,
    hidden: int,
    epochs: int,
    decay: float,
    classes: int,
    seed: int,
) -> Layers:
    """Train one net for each of the lists of rows, all at once."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], hidden, classes] if hidden else [x.shape[1], classes]
    weights, biases = [], []
    for wide, narrow in pairwise(sizes):
        scale = (2 / wide) ** 0.5 * (0.5 if narrow == classes else 1)
        start = torch.randn(len(own), wide, narrow, generator=generator) * scale
        weights.append(start.requires_grad_())
        biases.append(torch.zeros(len(own), 1, narrow, requires_grad=True))
    nets = Layers(weights, biases)
    optimizer = torch.optim.AdamW([*weights, *biases], lr=2e-3, weight_decay=decay)
    least = min(len(rows) for rows in own)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = torch.from_numpy(np.stack([rng.permutation(rows)[:least] for rows in own]))
        for start in range(0, least - BATCH // 2 + 1, BATCH):
            here = order[:, start : start + BATCH]
            loss = cross_entropy(nets.logits(x[here]).flatten(0, 1), y[here].flatten())
            optimizer.zero_grad()
            (loss * len(own)).backward()
            optimizer.step()
    return nets


def standard(x: Any) -> Tensor:
    x = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    return (x - x.mean(0)) / (x.std(0) + 1e-2)


def components(x: Tensor, count: int) -> Tensor:
    x = x - x.mean(0)
    vectors = torch.linalg.eigh(x.T @ x / len(x))[1]
    return standard(x @ vectors[:, -count:])


def pixels(data: Path, name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx_file(data / name / "train-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx_file(data / name / "train-labels-idx1-ubyte.gz", dimensions=1)
    return images[start:stop].reshape(stop - start, -1) / 255.0, labels[start:stop].astype(int)


def open_rows(data: Path, name: str) -> Rows:
    if name == "digits":
        digits = load_digits()
        return Rows(standard(digits.data / 16), digits.target, None, None)
    parts = ("mnist", "fashion_mnist") if name == "both20" else (name,)
    near = [pixels(data, part, 0, ROWS // len(parts)) for part in parts]
    far = [pixels(data, part, 20_000, 20_000 + 24_000 // len(parts)) for part in parts]
    flat = standard(np.concatenate([each[0] for each in near + far]))
    y = np.concatenate([each[1] + 10 * k for k, each in enumerate(near)])
    other = np.concatenate([each[1] + 10 * k for k, each in enumerate(far)])
    return Rows(flat[: len(y)], y, flat[len(y) :], other)


def read_by_others(rows: Rows, classes: int) -> tuple[Tensor, np.ndarray | None]:
    """Give features [N, H] and answers [N, C] of a net that was trained on the other rows."""
    if rows.other_x is None or rows.other_y is None:
        return components(rows.x, 50), None
    both = components(torch.cat([rows.x, rows.other_x]), min(60, rows.x.shape[1]))
    mine, rest = both[: len(rows.y)], both[len(rows.y) :]
    everyone = [np.arange(len(rows.other_y))]
    net = train(
        rest,
        torch.from_numpy(rows.other_y),
        everyone,
        hidden=256,
        epochs=12,
        decay=1e-2,
        classes=classes,
        seed=7,
    )
    answers = net.logits(mine[None])[0].detach().softmax(-1).numpy()
    return standard(net.hidden(mine)), answers.astype(float)


def read_by_novice(x: Tensor, y: np.ndarray, classes: int) -> np.ndarray:
    """Give the answers [N, C] of a small net that has seen sixty rows of each class."""
    few = np.random.default_rng(5).permutation(len(y))[: 60 * classes]
    kept = {"hidden": 32, "epochs": 25, "decay": 0.0, "classes": classes, "seed": 3}
    net = train(x[few], torch.from_numpy(y[few]), [np.arange(len(few))], **kept)  # type: ignore[arg-type]
    return net.logits(x[None])[0].detach().softmax(-1).numpy().astype(float)


def plant(
    kind: str, rate: float, y: np.ndarray, reader: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Give noisy labels [N]."""
    rows, classes = reader.shape
    given = y.copy()
    if kind in ("uniform", "asymmetric"):
        hit = rng.random(rows) < rate
        step = rng.integers(1, classes, rows) if kind == "uniform" else np.ones(rows, dtype=int)
        given[hit] = (y + step)[hit] % classes
    elif kind == "class":
        T = np.eye(classes)
        for label in range(classes):
            away = rng.dirichlet(np.full(classes - 1, 0.25))
            share = np.clip(rate * rng.uniform(0.2, 1.8), 0, 0.65)
            T[label] = np.insert(away * share, label, 1 - share)
        given = drawn(T[y], rng)
    elif kind != "none":
        others = reader + 1e-4
        others[np.arange(rows), y] = 0
        # A slip of the hand may hit any row.
        weight = others.sum(1) ** rng.uniform(0.4, 1.0) + 0.02
        hit = np.argsort(-(rng.random(rows) ** (1 / weight)))[: round(rate * rows)]
        share = others**0.7
        said = drawn(share / share.sum(1, keepdims=True), rng)
        given[hit] = said[hit]
    return given


def drawn(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    above = rng.random(len(probs))[:, None] > probs.cumsum(1)
    return np.minimum(above.sum(1), probs.shape[1] - 1)


def make_tables(data: Path, folder: Path) -> None:
    """Train every model on every noise, unless its table is there."""
    for name in SETS:
        rows = open_rows(data, name)
        classes, count = int(rows.y.max()) + 1, len(rows.y)
        features, expert = read_by_others(rows, classes)
        inputs = {50: components(rows.x, min(50, rows.x.shape[1])), 8: components(rows.x, 8)}
        inputs[0] = features
        novice = read_by_novice(inputs[8], rows.y, classes)
        for seed, noise in enumerate(NOISES):
            kind, rate = noise.split(":")
            reader = expert if kind == "ambiguous" else novice
            if reader is None:
                continue
            rng = np.random.default_rng([seed, count])
            given = plant(kind, float(rate), rows.y, reader, rng)
            fold = rng.permutation(count) % FOLDS
            own = [np.flatnonzero(fold != each) for each in range(FOLDS)]
            for model, (dims, hidden, epochs, decay) in MODELS.items():
                path = folder / f"{name}-{noise.replace(':', '')}-{model}.npz"
                if path.exists():
                    continue
                nets = train(
                    inputs[dims],
                    torch.from_numpy(given),
                    own,
                    hidden=hidden,
                    epochs=epochs,
                    decay=decay,
                    classes=classes,
                    seed=seed,
                )
                x = inputs[dims][None].expand(FOLDS, -1, -1)
                every = nets.logits(x).detach().softmax(-1).numpy()
                probs = every[fold, np.arange(count)]
                # The net of another fold has seen the row.
                seen = every[(fold + 1) % FOLDS, np.arange(count)]
                np.savez(path, probs=probs, in_sample=seen, given=given, true=rows.y)


def measured(folder: Path) -> Iterator[dict[str, Any]]:
    """Read every table, as it is and too sure."""
    for path in sorted(folder.glob("*.npz")):
        file = np.load(path)
        given, true = file["given"].astype(np.int64), file["true"]
        for sure in SURE:
            probs = np.maximum(file["probs"].astype(np.float64), 1e-9) ** sure
            table = blocks_of(probs / probs.sum(1, keepdims=True), "probabilities")
            found = one_pass(table, given)
            readings = read_rates(found, table)
            told: dict[str, Any] = {
                rule: estimate_rate(readings, rule=rule).estimate for rule in RULES
            }
            told |= {"name": path.stem, "wrong": float((given != true).mean())}
            told |= {"right": float((found.top == true).mean())}
            told |= {"warned": "in_sample" in [each.code for each in found.warnings]}
            if "in_sample" in file and sure == 1:
                seen = one_pass(blocks_of(file["in_sample"], "probabilities"), given)
                told |= {"seen_warned": "in_sample" in [each.code for each in seen.warnings]}
            yield told


def summary(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """Give how far the rules are off, on average."""
    off = {rule: np.array([abs(each[rule] - each["wrong"]) for each in tables]) for rule in RULES}
    wrong = np.array([each["wrong"] for each in tables])
    parts = {"all": wrong >= 0, "clean": wrong == 0, "low": (wrong > 0) & (wrong < 0.25)}
    parts |= {"high": wrong >= 0.25}
    return {
        "tables": len(tables),
        "mean_absolute_error": {
            part: {rule: round(float(each[rows].mean()), 4) for rule, each in off.items()}
            for part, rows in parts.items()
            if rows.any()
        },
        "warned_as_in_sample": round(float(np.mean([each["warned"] for each in tables])), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, default=Path("benchmarks/.cells/rate_study"))
    parser.add_argument("--only-measure", action="store_true")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/rate_study.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.tables.mkdir(exist_ok=True, parents=True)
    if not args.only_measure:
        make_tables(Path(os.environ.get("ERRATA_DATA", "../shared/data")), args.tables)
    tables = list(measured(args.tables))
    strong = [each for each in tables if each["right"] >= STRONG]
    seen = [each["seen_warned"] for each in tables if "seen_warned" in each]
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "every_table": summary(tables),
        f"models_right_in_{STRONG:g}": summary(strong),
        "in_sample_tables": len(seen),
        "in_sample_tables_warned": round(float(np.mean(seen)), 4) if seen else None,
        "numpy": np.__version__,
        "processor": processor_name(),
        "rule": DEFAULT_RULE,
        "sets": sorted({each["name"].split("-")[0] for each in tables}),
    }
    args.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
