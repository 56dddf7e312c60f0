"""What tracking and dropping cost per step, against a hand-written torch step.

    python benchmarks/overhead.py [--steps 1000] [--threads 1] [--json FILE]

All contestants take turns in one process, step by step, in an order that is drawn anew every
round, on the same net, data, augmentation and precision. Each is compared with its rival by the
ratio of mean step times, with a paired bootstrap over rounds for the 95 % interval. The A/A line
compares the hand-written step with a second copy of itself: what it strays from 1 is noise.
Pixels are made from a generator: the cost of a step does not depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from errata.data import Arrays, Augment
from errata.engine import Engine, TrainingRun
from errata.engine.step import plain_step
from errata.job import TRACK
from errata.machine import processor_name
from errata.methods import recipe_named
from errata.models import build_model
from errata.parts.base import OptimizerSpec, Stage

ROWS, CLASSES, BATCH, EPOCHS = 12_800, 10, 128, 60
MEAN, STD = 127.0, 73.0


def make_source() -> Arrays:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (ROWS, 1, 28, 28), dtype=np.uint8)
    given = rng.integers(0, CLASSES, ROWS)
    return Arrays(pixels, given, classes=[str(k) for k in range(CLASSES)])


def our_step(source: Arrays, recipe: str, *, tracked: bool) -> Callable[[], None]:
    """One step of the engine, drawing its batch included."""
    stage = Stage(recipe=recipe_named(recipe), epochs=EPOCHS, batch=BATCH)
    run = TrainingRun(
        (stage,),
        source,
        lambda: build_model("conv", source.shape, CLASSES),
        augment=Augment.parse("flip"),
        engine=Engine(device="cpu"),
        observers=TRACK if tracked else (),
    )
    run.enter_stage(0)
    # The window in which ODD keeps losses, its dearest before it drops.
    run.start_epoch(23)
    lap = run.everything().laps[0]

    def batches() -> Iterator:
        while True:
            yield from run.draw(lap, 0)

    drawn = batches()

    def step() -> None:
        batch = next(drawn)
        seen = plain_step(run, lap, batch)
        for part in run.parts:
            part.after_step(run, seen)
        for observer in run.observers:
            observer.step(run, seen)

    return step


def plain_torch_step(source: Arrays, precision: torch.dtype) -> Callable[[], None]:
    """The step that a careful person writes by hand."""
    torch.manual_seed(0)
    net = build_model("conv", source.shape, CLASSES).to(memory_format=torch.channels_last)
    spec = OptimizerSpec()
    optimizer = torch.optim.SGD(
        net.parameters(),
        spec.lr,
        momentum=spec.momentum,
        nesterov=True,
        weight_decay=spec.weight_decay,
    )
    pixels = torch.from_numpy(source.x)
    labels = torch.from_numpy(source.given)
    rng = torch.Generator().manual_seed(0)

    def batches() -> Iterator[torch.Tensor]:
        while True:
            yield from torch.randperm(ROWS, generator=rng).split(BATCH)

    drawn = batches()

    def step() -> None:
        rows = next(drawn)
        images = pixels[rows]
        flip = torch.rand(len(rows), generator=rng) < 0.5
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        images = ((images.float() - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            logits = net(images)
        torch.nn.functional.cross_entropy(logits.float(), labels[rows]).backward()
        optimizer.step()

    return step


def race(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Let all take turns; give the seconds of each step, [rounds] by name."""
    rng = np.random.default_rng(0)
    names = list(steps)
    times = {name: np.zeros(rounds) for name in names}
    for _ in range(10):
        for step in steps.values():
            step()
    for k in range(rounds):
        for name in rng.permutation(names):
            began = time.perf_counter()
            steps[name]()
            times[name][k] = time.perf_counter() - began
    return times


def compare(ours: np.ndarray, theirs: np.ndarray, draws: int = 2000) -> dict[str, float]:
    """Ratio of medians with a paired bootstrap interval over rounds."""
    rng = np.random.default_rng(1)
    picks = rng.integers(0, len(ours), (draws, len(ours)))
    ratios = np.median(ours[picks], axis=1) / np.median(theirs[picks], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "ratio": float(np.median(ours) / np.median(theirs)),
        "low": float(low),
        "high": float(high),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = make_source()
    precision = TrainingRun(
        (Stage(epochs=1),), source, lambda: build_model("conv", source.shape, CLASSES)
    ).precision
    times = race(
        {
            "plain torch": plain_torch_step(source, precision),
            "plain torch again": plain_torch_step(source, precision),
            "erm, tracked": our_step(source, "erm", tracked=True),
            "erm, not tracked": our_step(source, "erm", tracked=False),
            "odd before it drops, tracked": our_step(source, "odd", tracked=True),
            "mixup, tracked": our_step(source, "mixup", tracked=True),
            "odd+mixup before it drops": our_step(source, "odd+mixup", tracked=True),
        },
        args.steps,
    )
    pairs = [
        ("A/A", "plain torch again", "plain torch", None),
        ("erm with tracking / plain torch", "erm, tracked", "plain torch", 1.05),
        ("tracking on / off", "erm, tracked", "erm, not tracked", 1.03),
        ("odd before it drops / erm", "odd before it drops, tracked", "erm, tracked", 1.03),
        ("mixup / erm", "mixup, tracked", "erm, tracked", None),
        ("odd+mixup in its window / erm", "odd+mixup before it drops", "erm, tracked", None),
    ]
    report = {"steps": args.steps, "threads": args.threads, "hardware": processor_name()}
    report |= {"precision": str(precision), "pairs": {}}
    print(f"{args.steps} rounds, {args.threads} thread(s), {precision}, {processor_name()}")
    for name, values in times.items():
        print(f"  {name:<30} median {1e3 * np.median(values):6.2f} ms")
    for words, ours, theirs, bound in pairs:
        found = compare(times[ours], times[theirs])
        report["pairs"][words] = {**found, "bound": bound}
        verdict = (
            ""
            if bound is None
            else f"  bound {bound}: {'held' if found['high'] <= bound else 'MISSED'}"
        )
        print(
            f"  {words:<32} {found['ratio']:.4f}  95 % interval {found['low']:.4f} to "
            f"{found['high']:.4f}{verdict}"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
