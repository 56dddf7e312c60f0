"""The state of one training run, and what parts may ask of it.

Shapes: B batch, N training rows, C classes, D feature width.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from errata.data import Subset
from errata.data.augment import Augment
from errata.engine.checks import check_plan, check_program, check_source
from errata.engine.dist import (
    autocast,
    average_gradients,
    kept_randomness,
    pick_device,
    pick_precision,
    rank,
    same_everywhere,
    world_size,
)
from errata.engine.draw import batches_of
from errata.engine.feed import Feed, Scale, measure_scale
from errata.engine.net import Net, call_net, evaluating, frozen_statistics
from errata.engine.optim import learning_rate, make_optimizer, set_learning_rate
from errata.engine.pool import SamplePool
from errata.engine.settings import Engine
from errata.ledger import Ledger
from errata.losses import Loss, loss_named
from errata.losses.base import expected_loss
from errata.observe.base import Observer
from errata.parts.base import Part, Program, Stage
from errata.streams import generator, seed_of
from errata.types import Batch, Group, Lap, Plan, Seen, Source

__all__ = ["Engine", "TrainingRun"]

log = logging.getLogger("errata")

BuildModel = Callable[[], nn.Module]
Report = dict[str, Any]


@dataclass
class TrainingRun:
    """One program on one source: nets, optimizers, ledger, streams and the position among them.

    Args:
        program: Stages; copied, so that a recipe can be fitted twice.
        source: Training samples with their given labels.
        build_model: Makes a fresh network.
        seed: Start of every stream.
        augment: Random changes of the pictures.
        observers: Write statistics; they never change training.
        weights: Weight of each row [N] from corrected labels, or None.
        clean: Trusted samples outside the training set; None takes the rows verified as right.
        verified: What people found of the given labels [N]: 1 right, 0 wrong, -1 unknown.
        on_epoch: Called with the record of each finished epoch.
        on_step: Called with the share of the whole run that is done.
    """

    program: Program
    source: Source
    build_model: BuildModel
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    engine: Engine = field(default_factory=Engine)
    observers: Sequence[Observer] = ()
    weights: Tensor | None = None
    clean: Source | None = None
    verified: Tensor | None = None
    scale: Scale | None = None
    on_epoch: Callable[[TrainingRun, Report], None] | None = None
    on_step: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        check_program(self.program)
        check_source(self.source)
        self.program = copy.deepcopy(self.program)
        self.observers = tuple(copy.deepcopy(tuple(self.observers)))
        self.device = pick_device(self.engine.device)
        self.precision = pick_precision(self.engine.precision, self.device)
        self.dtype = torch.float64 if self.precision is torch.float64 else torch.float32
        self.classes = len(self.source.classes)
        self.num_rows = len(self.source.ids)
        self.ledger = Ledger(
            self.source.ids, self.source.given, self.source.classes, device=str(self.device)
        )
        self.given = self.ledger.given
        self.labelled = (self.given.cpu() >= 0).nonzero()[:, 0]
        self.scale = self.scale or measure_scale(self.source)
        self.augment.check(self.source.shape)
        self.pool = SamplePool(self, self.source, self.weights)
        self.feed = self.pool.feed
        self._eye = torch.eye(self.classes, device=self.device, dtype=self.dtype)
        self.stage_index = 0
        self.first_epoch = 0
        self.epoch = 0
        self.tick = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.nets: list[Net] = []
        self.losses: list[Loss] = []
        self.memory: dict[str, Tensor] = {}
        self.optimizers: list[torch.optim.Optimizer] = []
        self.notes: dict[str, dict[str, float | int | str]] = {}
        self.warnings: list[str] = []
        self.history: list[Report] = []
        self._entered = -1
        self.stage_tick = 0
        self._share = 1.0
        self._progress = 0.0
        self._unmixed: dict[int, tuple[Tensor, Tensor | None]] = {}
        for observer in self.observers:
            observer.open(self)

    @property
    def stage(self) -> Stage:
        """The running stage."""
        return self.program[self.stage_index]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the running stage, in their order."""
        return self.stage.recipe.parts

    @property
    def epochs(self) -> int:
        """Epochs of the running stage."""
        return self.stage.epochs

    @cached_property
    def trusted(self) -> SamplePool | None:
        """The clean samples, or where none were given the rows that people found right."""
        if self.clean is not None:
            return SamplePool(self, self.clean)
        if self.verified is None:
            return None
        right = ((self.verified.cpu() == 1) & (self.given.cpu() >= 0)).nonzero()[:, 0]
        return SamplePool(self, Subset(self.source, right.numpy())) if len(right) else None

    @property
    def lr(self) -> float:
        """Learning rate of the nets at this step."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return float(groups[0]["lr"]) if groups else self.stage.optimizer.lr

    def stream(self, name: str) -> torch.Generator:
        """Give a generator for this stage, epoch and step; the same for every net of the step."""
        # Counted from the stage's start, so that setting it up once more draws the same.
        steps = self.tick - self.stage_tick
        return generator(self.seed, self.stage_index, self.epoch, steps, name)

    def head(self, net: int) -> nn.Linear:
        """Give the last linear layer of a net."""
        return self.nets[net].find_head()

    def one_hot(self, labels: Tensor) -> Tensor:
        """Turn class numbers [B] into targets [B, C]."""
        return self._eye[labels]

    def note(self, name: str, **values: float | int | str) -> None:
        """Record a fact for the log, the summary and the report."""
        self.notes[name] = {**self.notes.get(name, {}), **values}

    def warn(self, message: str) -> None:
        """Warn once."""
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning(message)

    def sweep(self, net: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run a net in evaluation mode over rows, without augmentation."""
        rows = torch.arange(self.num_rows) if rows is None else rows.cpu()
        return self.predict(net, self.feed, rows)

    def predict(self, net: int, feed: Feed, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run a net in evaluation mode over rows of any feed: logits [n, C], features [n, D]."""
        logits, features = [], []
        with torch.no_grad(), evaluating(self.nets[net]) as model:
            for images in feed.sweep(rows):
                z, entered = self.forward(model, images)
                logits.append(z)
                features.append(None if entered is None else entered.to(self.dtype))
        found = [f for f in features if f is not None]
        swept = torch.cat(found) if len(found) == len(features) else None
        return torch.cat(logits), swept

    def unmixed(self, net: int, seen: Mapping[int, Seen]) -> Tensor:
        """Logits of the batch as drawn; free where nothing was mixed, else one forward pass."""
        if seen[net].batch.pure:
            return seen[net].logits.detach()
        return self._look_unmixed(net, seen)[0]

    def unmixed_features(self, net: int, seen: Mapping[int, Seen]) -> Tensor | None:
        """Features of the batch as drawn, at the cost of `unmixed`; None without a linear head."""
        if seen[net].batch.pure:
            entered = seen[net].features
            return None if entered is None else entered.detach()
        return self._look_unmixed(net, seen)[1]

    def _look_unmixed(self, net: int, seen: Mapping[int, Seen]) -> tuple[Tensor, Tensor | None]:
        if net not in self._unmixed:
            with frozen_statistics(self.nets[net]), kept_randomness(self.device):
                self._unmixed[net] = self.forward(self.nets[net], seen[net].plain.views[0])
        return self._unmixed[net]

    def has_unmixed(self, net: int, seen: Mapping[int, Seen]) -> bool:
        """Tell whether `unmixed` costs nothing at this step."""
        return seen[net].batch.pure or net in self._unmixed

    def enter_stage(self, index: int) -> None:
        """Make nets, losses and optimizers, and set up the parts, unless that was done already."""
        if self._entered == index:
            return
        self.stage_index = index
        recipe = self.stage.recipe
        if self.stage.reset or not self.nets:
            self.nets = [self.fresh_net(k) for k in range(recipe.nets)]
        self.losses = [
            loss_named(recipe.loss, **recipe.loss_values).to(self.device, self.dtype)
            for _ in self.nets
        ]
        self.epoch = 0
        self.stage_tick = self.tick
        for k, made in enumerate(self.losses):
            made.setup(self, k)
            made.to(self.device, self.dtype)
        for part in recipe.parts:
            part.setup(self)
        self.optimizers = [
            make_optimizer(self.stage.optimizer, net, loss)
            for net, loss in zip(self.nets, self.losses, strict=True)
        ]
        self._entered = index

    def leave_stage(self) -> None:
        """Let the next stage start at its first epoch."""
        self.first_epoch = 0

    def start_epoch(self, epoch: int) -> None:
        """Fix what torch draws from its global generator in this epoch (dropout, for example)."""
        self.epoch = epoch
        torch.manual_seed(seed_of(self.seed, self.stage_index, self.epoch, rank(), "torch"))
        self._began = time.perf_counter(), time.process_time()
        self._loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        self._agreed = torch.zeros((), device=self.device, dtype=torch.int64)
        self._rows_seen = 0
        self._rows_pure = 0

    def everything(self) -> Plan:
        """Plan one lap in which all nets see every labelled row."""
        return Plan((Lap(tuple(range(len(self.nets))), (Group(self.labelled),)),))

    def check(self, plan: Plan) -> None:
        """Refuse a plan without rows or one that ranks disagree on; warn of classes left out."""
        missing = check_plan(plan, self.given.cpu(), classes=self.classes)
        if not same_everywhere(plan.digest(), self.device):
            raise RuntimeError("ranks made different plans; please report this as a fault")
        for label in missing:
            name = self.source.classes[label]
            self.warn(f"no row of class `{name}` is left in training; it cannot be learned")

    def draw(self, lap: Lap, lap_index: int) -> Iterator[Batch]:
        """Serve the batches of a lap, this rank's rows of each, with the learning rate set."""
        pool = self.trusted if lap.pool == "trusted" else self.pool
        assert pool is not None, "a part that plans trusted samples has found some"
        laps = f"lap{lap_index}"
        ranks, own = world_size(), rank()
        draws = list(
            batches_of(
                lap,
                self.stage.batch,
                pool.given_cpu,
                lambda name: generator(self.seed, self.stage_index, self.epoch, laps, name),
                ranks=ranks,
            )
        )
        mine = [d.share(own, ranks) for d in draws]
        samples = pool.feed.raw([d.rows[m] for d, m in zip(draws, mine, strict=True)])
        for index, (each, share, raw) in enumerate(zip(draws, mine, samples, strict=True)):
            self.tick += 1
            self._unmixed.clear()
            self._set_progress((self.epoch + index / len(draws)) / self.epochs)
            self._share = len(share) / len(each.rows)
            yield pool.batch(each.rows[share], each.group[share], raw, len(each.rows), share)

    def look(self, net: int, batch: Batch, *, plain: Batch) -> Seen:
        """Run the forward pass of a net on a batch: logits, loss matrix, losses."""
        logits, features = self.forward(self.nets[net], batch.views[0])
        matrix = self.losses[net](logits, batch, features)
        losses = expected_loss(matrix, batch.target)
        if net == 0:
            self._loss_sum += losses.detach().sum()
            self._rows_seen += len(losses)
            if batch.pure:
                self._agreed += (logits.argmax(1) == batch.given).sum()
                self._rows_pure += len(losses)
        return Seen(batch, plain, logits, features, matrix, losses)

    def forward(self, net: Net, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run a net in the precision of this run; the logits come in the type of its losses."""
        with self.autocast():
            logits, features = call_net(net, images)
        return logits.to(self.dtype), features

    def reduce_and_clip(self, net: int) -> None:
        """Average the gradients of a net over ranks, then clip their norm where asked."""
        own = [*self.nets[net].parameters(), *self.losses[net].parameters()]
        # Frozen ones get no gradient: one of zeros would let weight decay move them.
        parameters: list[Tensor] = [p for p in own if p.requires_grad]
        average_gradients(parameters, self._share)
        if self.stage.optimizer.clip > 0:
            torch.nn.utils.clip_grad_norm_(parameters, self.stage.optimizer.clip)

    def finish_epoch(self) -> None:
        """Write the record of the epoch and hand it to whoever listens."""
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu_seconds += time.process_time() - self._began[1]
        record: Report = {
            "stage": self.stage_index,
            "epoch": self.epoch,
            "lr": round(self.optimizers[0].param_groups[0]["lr"], 8),
            "rows": self._rows_seen,
            "train_loss": round(float(self._loss_sum) / max(1, self._rows_seen), 6),
            "seconds": round(self.seconds, 3),
        }
        if self._rows_pure:
            record["train_agreement"] = round(float(self._agreed) / self._rows_pure, 6)
        if not math.isfinite(record["train_loss"]):
            self.warn("the training loss is no longer a number; start again with a lower `lr`")
        self.history.append(record)
        if self.on_epoch is not None:
            self.on_epoch(self, record)

    def autocast(self) -> AbstractContextManager[None]:
        """Compute forward passes in the precision of this run."""
        return autocast(self.device, self.precision)

    def fresh_net(self, index: int) -> Net:
        """Make a net whose weights depend on the seed, the stage and the index alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, self.stage_index, "net", index))
            net = Net(self.build_model()).to(self.device, self.dtype)
        if self.feed.layout is torch.channels_last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.engine.compile:
            net.compile()
        return net

    def _set_progress(self, share: float) -> None:
        rate = learning_rate(self.stage.optimizer, share, epochs=self.epochs)
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, rate)
        if self.on_step is not None:
            done = sum(stage.epochs for stage in self.program[: self.stage_index])
            whole = sum(stage.epochs for stage in self.program)
            self.on_step((done + share * self.epochs) / whole)
