"""Samples that a run draws from: the training set, and the trusted ones beside it.

Shapes: M samples of a pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from errata.data.augment import draw
from errata.engine.feed import Feed
from errata.types import Batch, Group, Source

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["SamplePool", "feed_of"]


def feed_of(run: TrainingRun, source: Source) -> Feed:
    """Serve samples as a run wants them, with the normalisation of its training set."""
    assert run.scale is not None, "the scale of a run is known before its pools"
    return Feed(
        source,
        run.scale,
        run.device,
        dtype=run.dtype,
        channels_last=run.engine.channels_last,
        budget_mb=run.engine.budget_mb,
        workers=run.engine.workers,
    )


class SamplePool:
    """One source as a run sees it.

    Args:
        run: Whose device, precision and streams are used.
        source: The samples.
        weights: Weight of each sample [M]; None weighs all alike.
    """

    def __init__(self, run: TrainingRun, source: Source, weights: Tensor | None = None) -> None:
        self.run = run
        self.source = source
        self.feed = feed_of(run, source)
        self.given_cpu = torch.as_tensor(source.given, dtype=torch.int64)
        self.given = self.given_cpu.to(run.device)
        self.labelled = (self.given_cpu >= 0).nonzero()[:, 0]
        weights = torch.ones(len(self.given)) if weights is None else weights
        self.weights = weights.to(run.device, run.dtype)

    def __len__(self) -> int:
        return len(self.given)

    def everyone(self) -> Group:
        """Give a group of all rows that have a label."""
        return Group(self.labelled)

    def batch(self, rows: Tensor, group: Tensor, raw: Tensor, count: int, mine: Tensor) -> Batch:
        """Make a batch of drawn samples.

        Args:
            rows: [B] of this pool, on the CPU.
            group: [B] the group that each was drawn from.
            raw: [B, ...] their unchanged samples.
            count: Rows of the batch over all ranks.
            mine: [B] places of these rows among them.
        """
        rows = rows.to(self.run.device)
        given = self.given[rows]
        views = range(self.run.stage.recipe.views)
        return Batch(
            rows=rows,
            views=tuple(self._view(raw, index, count, mine) for index in views),
            given=given,
            target=self.run.one_hot(given),
            weight=self.weights[rows],
            group=group.to(self.run.device),
        )

    def draw(self, count: int, name: str) -> Batch:
        """Draw `count` labelled samples, each at most once while there are enough of them."""
        rng = self.run.stream(name)
        rounds = -(-count // len(self.labelled))
        order = [torch.randperm(len(self.labelled), generator=rng) for _ in range(rounds)]
        rows = self.labelled[torch.cat(order)[:count]]
        raw = next(iter(self.feed.raw([rows])))
        everyone = torch.arange(count)
        return self.batch(rows, torch.zeros_like(rows), raw, count, everyone)

    def sweep(self, net: int) -> tuple[Tensor, Tensor | None]:
        """Run a net in evaluation mode over all samples: logits [M, C], features [M, D]."""
        return self.run.predict(net, self.feed, torch.arange(len(self)))

    def _view(self, raw: Tensor, index: int, count: int, mine: Tensor) -> Tensor:
        run = self.run
        if not run.augment.changes:
            return self.feed.finish(raw)
        drawn = draw(run.augment, count, run.source.shape, run.stream(f"view{index}"))
        return self.feed.finish(raw, drawn if len(mine) == count else drawn.take(mine))
