"""The statistics of every sample, from the logits that training computes anyway.

Shapes: B batch, N training rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from errata.ledger import standard
from errata.observe.base import Observer
from errata.phantoms import draw_phantoms
from errata.streams import generator
from errata.types import Seen

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["Statistics", "Track", "statistics_of"]


class Statistics(NamedTuple):
    """Facts of one batch about one set of labels."""

    loss: Float[Tensor, " B"]
    """Cross-entropy [nats] of the label."""
    margin: Float[Tensor, " B"]
    """Logit of the label minus the largest other logit."""
    correct: Bool[Tensor, " B"]
    """Whether the label has the largest logit."""


def statistics_of(
    logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"], log_probs: Float[Tensor, "B C"]
) -> Statistics:
    """Compute loss, margin and correctness of labels.

    Args:
        logits: [B, C].
        labels: [B] int64.
        log_probs: [B, C] log-softmax of the logits, which the caller has already.

    Source: the margin is that of AUM (Pleiss et al. 2020, arXiv:2001.10528).

    Example:
        >>> z = torch.tensor([[2.0, 1.0, 0.0]])
        >>> statistics_of(z, torch.tensor([0]), z.log_softmax(1)).margin
        tensor([1.])
    """
    column = labels[:, None]
    top = logits.topk(2, dim=1)
    correct = top.indices[:, 0] == labels
    rival = torch.where(correct, top.values[:, 1], top.values[:, 0])
    own = logits.gather(1, column)[:, 0]
    return Statistics(-log_probs.gather(1, column)[:, 0], own - rival, correct)


@dataclass
class Track(Observer):
    """Loss, margin, correctness, forgetting and averaged prediction of every row, from training.

    Where a part mixes rows, the logits of the mixed batch say nothing about a single row; then
    the statistics come from a forward pass of the batch as drawn, every `every`-th epoch (the
    last one of a shorter stage), and in each step where another part paid for that pass already.

    Attributes:
        every: Epochs between two looks while rows are mixed.
        dense_mb: Largest size of the [N, C] column of averaged predictions, in MB.
        curve: Whether to keep the loss of every epoch.
    """

    every: int = 5
    dense_mb: int = 1024
    curve: bool = True

    def open(self, run: TrainingRun) -> None:
        """Add the columns."""
        epochs = sum(stage.epochs for stage in run.program)
        names = (
            "loss loss_sum margin_sum correct_sum times_seen disagree_sum forgets first_learned "
            "last_correct phantom phantom_loss_sum phantom_margin_sum"
        )
        columns = [standard(name) for name in names.split()]
        self.dense_ = run.num_rows * run.classes * 4 <= self.dense_mb * 2**20
        if self.dense_:
            columns.append(standard("prob_sum", shape=(run.classes,)))
        self.curve_ = self.curve and run.num_rows * epochs * 2 <= self.dense_mb * 2**20
        if self.curve_:
            columns.append(standard("loss_curve", keep=epochs))
        run.ledger.add("track", *columns)
        everyone = torch.arange(run.num_rows, device=run.device)
        phantoms = draw_phantoms(run.given, run.classes, generator(run.seed, "phantom"))
        run.ledger.write("phantom", everyone, phantoms, stamp=0)
        run.ledger.write("first_learned", everyone, torch.full_like(phantoms, -1), stamp=0)

    @torch.no_grad()
    def step(self, run: TrainingRun, seen: Mapping[int, Seen]) -> None:
        """Write the statistics of one batch of the first net."""
        if 0 not in seen:
            return
        every = min(self.every, run.epochs)
        if not run.has_unmixed(0, seen) and run.epoch % every != every - 1:
            return
        logits = run.unmixed(0, seen)
        batch = seen[0].plain
        rows, ledger, stamp = batch.rows, run.ledger, run.tick
        log_probs = logits.log_softmax(1)
        facts = statistics_of(logits, batch.given, log_probs)
        null = statistics_of(logits, ledger.read("phantom", rows), log_probs)
        before = ledger.read("last_correct", rows)
        correct = facts.correct
        first = ledger.read("first_learned", rows)
        ledger.write("loss", rows, facts.loss, stamp=stamp)
        ledger.write("loss_sum", rows, facts.loss, stamp=stamp)
        ledger.write("margin_sum", rows, facts.margin, stamp=stamp)
        ledger.write("correct_sum", rows, correct, stamp=stamp)
        ledger.write("disagree_sum", rows, ~correct, stamp=stamp)
        ledger.write("times_seen", rows, torch.ones_like(rows), stamp=stamp)
        ledger.write("forgets", rows, before & ~correct, stamp=stamp)
        ledger.write("last_correct", rows, correct, stamp=stamp)
        epoch = sum(stage.epochs for stage in run.program[: run.stage_index]) + run.epoch
        learned = torch.where((first < 0) & correct, epoch, first)
        ledger.write("first_learned", rows, learned, stamp=stamp)
        ledger.write("phantom_loss_sum", rows, null.loss, stamp=stamp)
        ledger.write("phantom_margin_sum", rows, null.margin, stamp=stamp)
        if self.dense_:
            ledger.write("prob_sum", rows, log_probs.exp(), stamp=stamp)
        if self.curve_:
            ledger.write("loss_curve", rows, facts.loss, stamp=stamp)
