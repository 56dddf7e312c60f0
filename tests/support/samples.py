"""Tiny sources and nets that train in milliseconds, for tests of everything that trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from errata.data import Arrays
from errata.engine import Engine, TrainingRun
from errata.engine.state import state_of
from errata.errors import ErrataError
from errata.methods import phases_named
from errata.observe import Observer
from errata.parts.base import OptimizerSpec, Phase, Program, Recipe, stages_of_phases

__all__ = [
    "EXACT",
    "InterruptError",
    "Streamed",
    "TinyNet",
    "Watcher",
    "all_tensors",
    "assert_same_bits",
    "blobs",
    "flipped",
    "one_stage",
    "pictures",
    "tiny_net",
]

EXACT = Engine(device="cpu", precision="float64", channels_last=False)
"""Double precision, so that two orders of the same sum agree to many digits."""


class InterruptError(Exception):
    """What a listener raises in place of a kill; no error of the package."""


def pictures(
    rows: int = 96,
    classes: int = 3,
    *,
    seed: int = 0,
    wrong: float = 0.0,
    unlabelled: int = 0,
    rare: int | None = None,
) -> Arrays:
    """Pictures of 8 x 8 grey levels: a pattern per class, and noise.

    Args:
        rows: How many.
        classes: How many kinds.
        seed: Start of the stream.
        wrong: Share of labels moved to another class.
        unlabelled: The last so many rows have no label.
        rare: Rows of the last class; None gives it as many as the others.
    """
    rng = np.random.default_rng(seed)
    pattern = rng.uniform(0, 255, size=(classes, 1, 8, 8))
    clean = np.arange(rows) % classes
    if rare is not None:
        clean[clean == classes - 1] = 0
        clean[:rare] = classes - 1
    rng.shuffle(clean)
    noisy = pattern[clean] + rng.normal(0, 40, size=(rows, 1, 8, 8))
    given, _ = flipped(clean, classes, wrong, rng)
    if unlabelled:
        given[-unlabelled:] = -1
    names = [f"kind {c}" for c in range(classes)]
    ids = [f"row {r}" for r in range(rows)]
    x = noisy.clip(0, 255).astype(np.uint8)
    return Arrays(x, given, classes=names, ids=ids, name="pictures")


def blobs(
    rows: int = 256,
    classes: int = 2,
    *,
    width: int = 2,
    distance: float = 3.0,
    wrong: float = 0.0,
    seed: int = 0,
) -> tuple[Arrays, np.ndarray]:
    """Gaussian clouds of unit width on a circle, and which of their labels are wrong."""
    rng = np.random.default_rng(seed)
    clean = np.arange(rows) % classes
    rng.shuffle(clean)
    angle = 2 * math.pi * clean / classes
    x = rng.normal(size=(rows, width))
    x[:, 0] += distance * np.cos(angle)
    x[:, 1] += distance * np.sin(angle)
    given, is_wrong = flipped(clean, classes, wrong, rng)
    names = [f"cloud {c}" for c in range(classes)]
    return Arrays(x.astype(np.float32), given, classes=names, name="blobs"), is_wrong


def flipped(
    clean: np.ndarray, classes: int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Move a share of labels to another class; give the labels and which of them are wrong."""
    is_wrong = np.zeros(len(clean), dtype=bool)
    is_wrong[rng.permutation(len(clean))[: round(share * len(clean))]] = True
    shift = rng.integers(1, classes, size=len(clean)) * is_wrong
    return (clean + shift) % classes, is_wrong


class Streamed:
    """A source that pretends to decode files, so that workers read it."""

    def __init__(self, source: Arrays) -> None:
        self.name, self.ids, self.given = source.name, source.ids, source.given
        self.classes, self.shape = source.classes, source.shape
        self.in_memory = False
        self._inner = source

    def pixels(self, rows: np.ndarray) -> Tensor:
        return self._inner.pixels(rows)

    def show(self, row: int) -> bytes:
        return self._inner.show(row)


class TinyNet(nn.Module):
    """One hidden layer, rectified, and a linear head.

    Its weights come from numpy, whose streams are the same on every machine and in every version.
    """

    def __init__(
        self, width_in: int, classes: int, *, width: int, norm: bool, dropout: float, seed: int
    ) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Flatten(), nn.Linear(width_in, width, bias=not norm)]
        body += [nn.BatchNorm1d(width)] if norm else []
        body += [nn.ReLU()]
        body += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, classes)
        rng = np.random.default_rng(seed)
        with torch.no_grad():
            for layer in (self.body[1], self.head):
                scale = math.sqrt(2 / layer.in_features)
                layer.weight.copy_(torch.from_numpy(rng.normal(0, scale, layer.weight.shape)))
                if layer.bias is not None:
                    layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def tiny_net(
    source: Any, *, width: int = 16, norm: bool = True, dropout: float = 0.0, seed: int = 0
) -> Callable[[], nn.Module]:
    """Give a function that builds a tiny net for a source; the same weights every time."""
    width_in = int(np.prod(source.shape))
    return lambda: TinyNet(
        width_in, len(source.classes), width=width, norm=norm, dropout=dropout, seed=seed
    )


def one_stage(
    recipe: str | Recipe = "erm", *, epochs: int = 4, batch: int = 32, lr: float = 0.05, **rest: Any
) -> Program:
    """Make a program of one stage; a recipe of several phases gets as many stages."""
    phases = phases_named(recipe) if isinstance(recipe, str) else (Phase(recipe=recipe),)
    usual = OptimizerSpec(lr=lr, **rest)
    # A phase that brings an optimizer keeps its schedule, at a rate that suits tiny nets.
    own = tuple(replace(p, optimizer=p.optimizer and replace(p.optimizer, lr=lr)) for p in phases)
    return stages_of_phases(own, epochs=epochs, batch=batch, optimizer=usual)


class Watcher(Observer):
    """Calls a function at every step."""

    def __init__(self, look: Callable[..., None]) -> None:
        self.look = look

    def step(self, run: TrainingRun, seen: Any) -> None:
        self.look(run, seen)

    def __deepcopy__(self, memo: Any) -> Watcher:
        # A run copies its observers, and this one has to report to its test.
        return self


def all_tensors(run: TrainingRun) -> dict[str, Tensor]:
    """Name every tensor that a run has produced: nets, losses, optimizers, ledger."""
    return dict(_tensors(state_of(run), "run"))


def _tensors(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _tensors(each, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _tensors(each, f"{path}/{index}")


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """Compare tensors by their bytes, so that NaN equals NaN and 0 differs from -0."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        other = right[name]
        assert tensor.dtype == other.dtype, name
        assert tensor.shape == other.shape, name
        mine, theirs = tensor.detach().cpu().numpy(), other.detach().cpu().numpy()
        assert mine.tobytes() == theirs.tobytes(), name


def interrupted_fit(fit: Callable[..., TrainingRun], folder: Path, **values: Any) -> None:
    """Run a fit that its listener interrupts; fail where it is not interrupted."""
    try:
        fit(checkpoint=folder, checkpoint_s=0, **values)
    except InterruptError:
        return
    except ErrataError as error:
        raise AssertionError("the fit failed before it was interrupted") from error
    raise AssertionError("the fit ended before it was interrupted")
