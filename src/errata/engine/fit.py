"""One call that trains a program: resumes, evaluates, estimates its time, and gives the run."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from errata.data.augment import Augment
from errata.engine.checkpoint import load_checkpoint, save_checkpoint
from errata.engine.dist import kept_randomness, rank, threads, world_size
from errata.engine.loop import train
from errata.engine.run import Engine, TrainingRun
from errata.engine.state import restore, state_of
from errata.engine.testing import mean_probabilities, test_accuracy, test_feed
from errata.models import build_model
from errata.observe.base import Observer
from errata.observe.track import Track
from errata.parts.base import Program
from errata.types import Source

__all__ = ["Listener", "default_batch", "default_epochs", "estimate_seconds", "fit", "run_digest"]


def default_batch(rows: int) -> int:
    """Choose the batch by size: about 40 steps an epoch, a power of two from 16 to 128.

    Example:
        >>> [default_batch(n) for n in (200, 1_437, 10_000)]
        [16, 32, 128]
    """
    return int(min(128, max(16, 2 ** max(0, (rows // 40).bit_length() - 1))))


def default_epochs(rows: int) -> int:
    """Choose epochs by size.

    600,000 presentations, but at least 12 and at most 20 epochs; small sets get more, until they
    make 900 steps, but at most 60 epochs. Longer training learns wrong labels by heart: on 1,437
    digits with 18 % of them wrong, plain training fell from .92 after 12 epochs to .88 after 60.

    Example:
        >>> [default_epochs(n) for n in (244, 1_437, 10_000, 40_000, 60_000)]
        [57, 20, 20, 15, 12]
    """
    wanted = min(20, max(12, -(-600_000 // max(1, rows))))
    steps = -(-rows // default_batch(rows)) if rows else 1
    return min(60, max(wanted, -(-900 // max(1, steps))))


@dataclass(frozen=True)
class Listener:
    """Who is told what happens during a fit."""

    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None
    on_step: Callable[[float], None] | None = None
    on_estimate: Callable[[float], None] | None = None


def run_digest(
    source: Source, program: Program, weights: torch.Tensor | None = None, **rest: Any
) -> str:
    """Name everything that must be equal for an unfinished run to be continued."""
    hasher = hashlib.blake2b(digest_size=12)
    for name in source.ids:
        hasher.update(name.encode("utf-8", "surrogatepass") + b"\0")
    hasher.update(source.given.tobytes())
    # A program is made of dataclasses, so its repr is its content.
    hasher.update(repr(program).encode())
    hasher.update(json.dumps(rest, sort_keys=True).encode())
    if weights is not None:
        hasher.update(weights.cpu().numpy().tobytes())
    return hasher.hexdigest()


def fit(
    program: Program,
    source: Source,
    *,
    model: str | Callable[[], torch.nn.Module],
    seed: int = 0,
    augment: Augment | None = None,
    engine: Engine | None = None,
    observers: tuple[Observer, ...] = (Track(),),
    weights: torch.Tensor | None = None,
    clean: Source | None = None,
    verified: torch.Tensor | None = None,
    tests: Mapping[str, Source] | None = None,
    test_every: int = 0,
    checkpoint: Path | None = None,
    checkpoint_s: float = 20.0,
    resume: bool = False,
    listener: Listener | None = None,
) -> TrainingRun:
    """Train a program on a source and give the finished run.

    Args:
        program: Stages, in order.
        source: Training samples with their given labels.
        model: Name of a model, or a function that builds one.
        seed: Start of every random stream.
        augment: Random changes of the pictures; None makes none.
        engine: How to compute; None chooses by the machine.
        observers: Write statistics of every sample.
        weights: Weight of each row [N]; None weighs all alike.
        clean: Trusted samples outside the training set.
        verified: What people found of the given labels [N]: 1 right, 0 wrong, -1 unknown.
        tests: Labelled test sets, by name; they only measure.
        test_every: Epochs between measurements on the way; 0 measures at no time here.
        checkpoint: Folder for the state of the unfinished run.
        checkpoint_s: Seconds between two checkpoints; the end of a stage always makes one.
        resume: Go on from the checkpoint where there is one.
        listener: Told of progress.

    Raises:
        SettingsError: A name or a value is not allowed, or the checkpoint is of another run.
    """
    listener = listener or Listener()
    build = model if callable(model) else _builder(model, source)
    extra = {} if clean is None else {"clean": _content(clean)}
    if verified is not None:
        extra["verified"] = hashlib.blake2b(verified.cpu().numpy().tobytes()).hexdigest()
    digest = run_digest(
        source,
        program,
        weights,
        **extra,
        model=model if isinstance(model, str) else "module",
        seed=seed,
        augment=asdict(augment or Augment()),
        ranks=world_size(),
    )
    feeds: dict[str, Any] = {}
    saved = [time.perf_counter()]

    def on_epoch(run: TrainingRun, record: dict[str, Any]) -> None:
        last = record["epoch"] == run.epochs - 1
        if test_every and (last or record["epoch"] % test_every == test_every - 1):
            for name, test in (tests or {}).items():
                feeds.setdefault(name, test_feed(run, test))
                probs = mean_probabilities(run, feeds[name])
                accuracy = test_accuracy(probs, test.given)
                record.setdefault("test", {})[name] = round(accuracy, 6)
        due = last or time.perf_counter() - saved[0] >= checkpoint_s
        if checkpoint is not None and due and rank() == 0:
            save_checkpoint(checkpoint, state_of(run), settings=digest)
            saved[0] = time.perf_counter()
        # Last, since a listener may stop the run by raising.
        listener.on_epoch(record)

    run = TrainingRun(
        program,
        source,
        build,
        seed=seed,
        augment=augment or Augment(),
        engine=engine or Engine(),
        observers=observers,
        weights=weights,
        clean=clean,
        verified=verified,
        on_epoch=on_epoch,
        on_step=listener.on_step,
    )
    state = load_checkpoint(checkpoint, settings=digest) if resume and checkpoint else None
    values = program[0].batch * math.prod(source.shape)
    with kept_randomness(run.device), threads(run.engine.threads, batch_values=values):
        if state is not None:
            restore(run, state)
        else:
            check_stages(run)
        if listener.on_estimate is not None:
            listener.on_estimate(estimate_seconds(run))
        train(run)
    return run


def check_stages(run: TrainingRun) -> None:
    """Set up all stages on a copy of a new run, so that none is refused hours later.

    Raises:
        SettingsError: The loss or a part of some stage refuses what it is given.
    """
    if len(run.program) == 1:
        return
    trial = _Trial.__new__(_Trial)
    trial.__dict__.update(run.__dict__)
    trial.program, trial.ledger = copy.deepcopy((run.program, run.ledger))
    trial.memory, trial.notes, trial.nets = {}, {}, []
    for index in range(len(run.program)):
        trial.enter_stage(index)


class _Trial(TrainingRun):
    """A run that is never trained; what it would warn of is said by the run itself."""

    def warn(self, message: str) -> None:
        pass


def _content(source: Source) -> str:
    return run_digest(source, ())


def _builder(name: str, source: Source) -> Callable[[], torch.nn.Module]:
    return lambda: build_model(name, source.shape, len(source.classes))


def estimate_seconds(run: TrainingRun, *, steps: int = 4) -> float:
    """Estimate how long the rest of a run will take, from a few steps of a throw-away net.

    Parts are left out, so recipes with several nets or extra passes take longer than this.
    """
    stage = run.stage
    size = min(stage.batch, len(run.labelled))
    net = run.fresh_net(0)
    rows = run.labelled[:size]
    labels = run.given[rows.to(run.device)]
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        images = run.feed.finish(next(run.feed.raw([rows])))
        logits, _ = run.forward(net, images)
        torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - began)
    per_row = min(times[1:]) / size
    left = sum(stage.epochs * stage.recipe.nets for stage in run.program[run.stage_index :])
    left -= run.first_epoch * stage.recipe.nets
    return per_row * left * len(run.labelled) / world_size()
