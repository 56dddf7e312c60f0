"""Tables of held-out probabilities of nets trained on wrong labels, for `benchmarks/rate_study.py`.

Three sets of rows (MNIST, Fashion-MNIST, digits), three nets of different strength and confidence,
up to fifteen kinds of noise and none, five folds. ``instance`` errs where an annotator who saw few
rows is unsure, ``ambiguous`` where a good net of other rows is. Tables are kept in a folder and
used again. And labels of people: votes on the test images of CIFAR-10 (CIFAR-10H), of one person or
of the worst of several, under held-out probabilities that were published for these images, as they
are and as nets fitted to the votes recalibrate them. Neither the images nor the people nor the
network are those of `benchmarks/published.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rate_tables import Table, drawn
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from errata.data.idx import read_idx_file

NOISES = (
    *("none:0", "uniform:0.05", "uniform:0.2", "uniform:0.4", "asymmetric:0.1", "asymmetric:0.3"),
    *("class:0.2", "class:0.4", "instance:0.05", "instance:0.1", "instance:0.2", "instance:0.4"),
    *("ambiguous:0.05", "ambiguous:0.1", "ambiguous:0.2", "ambiguous:0.4"),
)
# Rows, and how many of the kinds of noise: all would take twice as long.
SETS = {"mnist": 16, "fashion_mnist": 7, "digits": 12}
# Name: principal components (0: features of a net of other rows), hidden units (0: linear),
# epochs, weight decay.
MODELS = {
    "early": (50, 128, 8, 0.0),
    "long": (50, 128, 50, 0.0),
    "pretrained": (0, 0, 15, 1e-3),
}
# Of how many people the worst counts; and nets as above, on the answers of the network.
VOTES = (1, 2, 3, 6, 12)
RECALIBRATED = {"linear": (0, 6, 1e-3), "hidden": (32, 6, 0.0)}
ROWS, FOLDS, BATCH = 5000, 5, 128


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
    near, y = pixels(data, name, 0, ROWS)
    far, other = pixels(data, name, 20_000, 44_000)
    flat = standard(np.concatenate([near, far]))
    return Rows(flat[:ROWS], y, flat[ROWS:], other)


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


def held_out(nets: Layers, x: Tensor, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the answers [N, C] of the net that has not seen the row, and of another one."""
    every = nets.logits(x[None].expand(FOLDS, -1, -1)).detach().softmax(-1).numpy()
    each = np.arange(len(fold))
    return every[fold, each], every[(fold + 1) % FOLDS, each]


def folds_of(rows: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    fold = rng.permutation(rows) % FOLDS
    return fold, [np.flatnonzero(fold != each) for each in range(FOLDS)]


def make_tables(data: Path, folder: Path) -> None:
    """Train every model on every noise, unless its table is there."""
    for name, kinds in SETS.items():
        paths = {
            (seed, model): folder / f"{name}-{NOISES[seed].replace(':', '')}-{model}.npz"
            for seed in range(kinds)
            for model in MODELS
        }
        missing = [key for key, path in paths.items() if not path.exists()]
        if not missing:
            continue
        rows = open_rows(data, name)
        classes, count = int(rows.y.max()) + 1, len(rows.y)
        features, expert = read_by_others(rows, classes)
        inputs = {50: components(rows.x, min(50, rows.x.shape[1])), 8: components(rows.x, 8)}
        inputs[0] = features
        novice = read_by_novice(inputs[8], rows.y, classes)
        for seed, model in missing:
            kind, rate = NOISES[seed].split(":")
            reader = novice if kind != "ambiguous" or expert is None else expert
            rng = np.random.default_rng([seed, count])
            given = plant(kind, float(rate), rows.y, reader, rng)
            fold, own = folds_of(count, rng)
            dims, hidden, epochs, decay = MODELS[model]
            kept = {"hidden": hidden, "epochs": epochs, "decay": decay, "classes": classes}
            nets = train(inputs[dims], torch.from_numpy(given), own, **kept, seed=seed)  # type: ignore[arg-type]
            probs, seen = held_out(nets, inputs[dims], fold)
            np.savez(paths[seed, model], probs=probs, in_sample=seen, given=given, true=rows.y)


def vote_tables(data: Path) -> Iterator[tuple[str, Table]]:
    """Give tables of people's labels, by name."""
    probs = np.load(data / "label_errors" / "cifar10_test_pred_probs.npy")
    true = np.load(data / "label_errors" / "cifar10_test_labels.npy").astype(np.int64)
    counts = np.load(data / "cifar10h" / "cifar10h-counts.npy")
    shares = counts / counts.sum(1, keepdims=True)
    x = standard(np.log(np.maximum(probs, 1e-5)))
    for people in VOTES:
        rng = np.random.default_rng([5, people])
        given = true.copy()
        for _ in range(people):
            vote = drawn(shares, rng)
            given = np.where((vote != true) & (given == true), vote, given)
        fold, own = folds_of(len(true), rng)
        yield f"votes{people}-network", Table(probs, given, true, "votes", "network")
        for model, (hidden, epochs, decay) in RECALIBRATED.items():
            kept = {"hidden": hidden, "epochs": epochs, "decay": decay, "classes": shares.shape[1]}
            nets = train(x, torch.from_numpy(given), own, **kept, seed=people)  # type: ignore[arg-type]
            answers = held_out(nets, x, fold)[0]
            yield f"votes{people}-{model}", Table(answers, given, true, "votes", model)
