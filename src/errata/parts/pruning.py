"""Rows that are left out for a while, and judged again.

Shapes: B batch, N rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from errata.errors import SettingsError
from errata.ledger import Column
from errata.parts.base import Part, register_part
from errata.parts.dropping import above_threshold
from errata.types import Batch, Moment, Plan, Run, epoch_of

__all__ = ["Prune"]

_WEIGHT = "prune_weight"


@register_part("prune")
@dataclass(kw_only=True)
class Prune(Part):
    """Weigh rows whose label the net disbelieves with 0, from one judgement to the next.

    Attributes:
        start: First judgement.
        every: Time between two of them; one epoch at least.
        k: Labels with this probability or less are left out, above 0 and below 1.
        floor_rows: Each class keeps at least this many of its cheapest rows.
        floor_share: Each class keeps at least this share of them.
    """

    start: Moment = "33.34%"
    every: Moment = "8.34%"
    k: float = 0.5
    floor_rows: int = 10
    floor_share: float = 0.05

    def __post_init__(self) -> None:
        epoch_of(self.start, 1)
        epoch_of(self.every, 1)
        for name, good, allowed in (
            ("k", 0 < self.k < 1, "numbers above 0 and below 1"),
            ("floor_rows", self.floor_rows >= 0, "0 and above"),
            ("floor_share", 0 <= self.floor_share <= 1, "0 to 1"),
        ):
            if not good:
                raise SettingsError(
                    f"prune {name} `{getattr(self, name)}` is out of range; allowed: {allowed}",
                    hint=f"leave `{name}` out for the default",
                )

    def setup(self, run: Run) -> None:
        """Add the column; refuse a start that never comes."""
        self.epoch_ = epoch_of(self.start, run.epochs)
        self.period_ = max(1, epoch_of(self.every, run.epochs))
        if not 0 <= self.epoch_ < run.epochs:
            raise SettingsError(
                f"prune start `{self.start}` is not within a stage of {run.epochs} epochs; "
                f"allowed: epoch 0 to {run.epochs - 1}",
                hint="start earlier, or train for longer",
            )
        run.ledger.add(self.kind, Column(_WEIGHT, init=1.0))
        # An earlier stage may have left rows out; this one begins with all of them.
        everyone = torch.arange(run.num_rows, device=run.device)
        run.ledger.write(_WEIGHT, everyone, torch.ones(run.num_rows), stamp=run.tick)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Judge all rows, where it is time to."""
        if any(lap.pool == "trusted" for lap in plan.laps):
            raise SettingsError(
                "prune does not go with steps on trusted samples, which it would weigh as if they "
                "were rows of the source; allowed: a recipe that trains on the source alone",
                hint="leave `truncated-gce` out",
            )
        since = run.epoch - self.epoch_
        if since >= 0 and since % self.period_ == 0 and run.epoch > 0:
            self._judge(run)
        return plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Weigh the rows that are left out with 0."""
        factor = run.ledger.read(_WEIGHT, batch.rows).to(batch.weight)
        return replace(batch, weight=batch.weight * factor)

    def _judge(self, run: Run) -> None:
        rows = (run.given >= 0).nonzero()[:, 0]
        log_probs = run.sweep(0, rows)[0].log_softmax(1)
        given = run.given[rows]
        losses = -log_probs.gather(1, given[:, None])[:, 0]
        # The next number below, as a label with probability k itself is left out.
        threshold = math.nextafter(-math.log(self.k), 0.0)
        pruned = above_threshold(
            losses, given, threshold, floor_rows=self.floor_rows, floor_share=self.floor_share
        )
        kept = torch.where(pruned, 0.0, 1.0).to(run.device)
        run.ledger.write(_WEIGHT, rows, kept, stamp=run.tick)
        run.note(self.kind, epoch=run.epoch, share=float(pruned.float().mean()))
