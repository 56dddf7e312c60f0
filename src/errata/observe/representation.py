"""What the net made of every row: the features that entered its head, averaged over training.

Shapes: B batch, N training rows, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

import torch

from errata.errors import ErrataError, SettingsError
from errata.ledger import Column
from errata.observe.base import Observer
from errata.types import Seen

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["Representation"]


@dataclass
class Representation(Observer):
    """Keeps the features of every row, averaged over an early and a late part of training.

    They are those of the first net, from the views that training looks at anyway. Early ones hold
    little of the row's own label, late ones say more of what the row shows. Averages over views and
    epochs say more than any single view. The column ``feature_sum`` [N, 2, D] float16 holds the
    features divided by the epochs of their part, ``feature_views`` [N, 2] int32 the views; early
    stands first. Where rows are mixed, those of the batch as drawn count, in the steps in which
    `Track` or a part looked at it; list `Track` first. Nothing is kept of nets without a linear
    head, of stages that begin again with fresh nets, and where the column would outgrow `most_mb`.

    Attributes:
        early: Share of training that counts as early, above 0 and below 1.
        most_mb: Largest size of the column, in MB.
    """

    early: float = 0.3
    most_mb: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.early < 1:
            raise SettingsError(
                f"representation early `{self.early}` is out of range; allowed: above 0, below 1",
                hint="leave `early` out for the default",
            )
        if self.most_mb < 1:
            raise SettingsError(
                f"representation most_mb `{self.most_mb}` is out of range; allowed: 1 and above",
                hint="leave `most_mb` out for the default",
            )

    def open(self, run: TrainingRun) -> None:
        """Add the columns, where the net has a linear head and they are small enough."""
        self.width_ = _width(run)
        if not self.width_ or run.num_rows * self.width_ * 4 > self.most_mb * 2**20:
            self.width_ = 0
            return
        going_on = takewhile(lambda stage: not stage.reset, run.program[1:])
        self.epochs_ = [0, *accumulate(stage.epochs for stage in (run.program[0], *going_on))]
        shape = (2, self.width_)
        run.ledger.add(
            "representation",
            Column("feature_sum", shape=shape, dtype=torch.float16, rule="sum"),
            Column("feature_views", shape=(2,), dtype=torch.int32, rule="sum"),
        )

    @torch.no_grad()
    def step(self, run: TrainingRun, seen: Mapping[int, Seen]) -> None:
        """Add the features of one batch of the first net."""
        if not self.width_ or 0 not in seen or run.stage_index + 1 >= len(self.epochs_):
            return
        if not run.has_unmixed(0, seen):
            return
        batch, features = seen[0].plain, run.unmixed_features(0, seen)
        if features is None or features.shape[1:] != (self.width_,):
            return
        epochs = self.epochs_[-1]
        first_late = min(max(round(self.early * epochs), 1), max(epochs - 1, 1))
        late = self.epochs_[run.stage_index] + run.epoch >= first_late
        length = epochs - first_late if late else first_late
        values = features.new_zeros(len(batch.rows), 2, self.width_)
        values[:, int(late)] = features / length
        views = torch.zeros(len(batch.rows), 2, dtype=torch.int32, device=batch.rows.device)
        views[:, int(late)] = 1
        run.ledger.write("feature_sum", batch.rows, values, stamp=run.tick)
        run.ledger.write("feature_views", batch.rows, views, stamp=run.tick)


def _width(run: TrainingRun) -> int:
    """Give D, or 0 for a net without a linear head."""
    try:
        return run.fresh_net(0).find_head().in_features
    except ErrataError:
        return 0
