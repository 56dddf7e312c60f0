"""Dropping rows once and for good: what methods share that compare losses with a null.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.ledger import Column, standard
from errata.parts.base import Part
from errata.types import Batch, Moment, Plan, Run, Seen, epoch_of

__all__ = ["LEAST_LOSS", "DropAboveNull", "above_threshold", "percentile_of"]


def percentile_of(losses: Float[Tensor, " n"], percentile: float) -> float:
    """Give a percentile (0 to 100) of losses, interpolated linearly.

    Sorts rather than calling ``torch.quantile``, which refuses more than 16 million values.
    """
    ordered = losses.double().sort().values
    place = percentile / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[low], ordered[high], place - low))


def above_threshold(
    losses: Float[Tensor, " N"],
    given: Int[Tensor, " N"],
    threshold: float,
    *,
    floor_rows: int = 10,
    floor_share: float = 0.05,
    cap_share: float = 1.0,
) -> Bool[Tensor, " N"]:
    """Choose the rows to drop: loss strictly above the threshold, but never a whole class.

    Where a class has more rows above the threshold than it may lose, its dearest ones go.

    Args:
        losses: [N] nats; NaN marks rows that are not in training, which are never chosen.
        given: [N] class of each row.
        threshold: In nats.
        floor_rows: Each class keeps at least this many of its cheapest rows ...
        floor_share: ... and at least this share of them.
        cap_share: Each class loses at most this share of its rows; 1 is off.

    Example:
        >>> losses, given = torch.tensor([1.0, 5.0, 6.0, 7.0]), torch.tensor([0, 0, 0, 0])
        >>> above_threshold(losses, given, 2.0, floor_rows=0, cap_share=0.5)
        tensor([False, False,  True,  True])
    """
    chosen = losses > threshold
    for label in torch.unique(given[chosen]).tolist():
        members = ((given == label) & ~losses.isnan()).nonzero()[:, 0]
        spared = max(floor_rows, math.ceil(floor_share * len(members)))
        # The small number undoes rounding: 0.29 * 100 is a little less than 29.
        spared = max(spared, len(members) - math.floor(cap_share * len(members) + 1e-9))
        cheapest = losses[members].argsort(stable=True)[:spared]
        chosen[members[cheapest]] = False
    return chosen


LEAST_LOSS = math.log(2)
"""Loss of a label that has half of the probability: below it no other class has more."""

_LIMITS: dict[str, tuple[float, float]] = {
    "percentile": (0, 100),
    "recent": (1, math.inf),
    "floor_rows": (0, math.inf),
    "floor_share": (0, 1),
    "cap_share": (0, 1),
    "weight": (0, 1),
    "least_loss": (0, math.inf),
    "draws": (1, math.inf),
}


@dataclass(kw_only=True)
class DropAboveNull(Part):
    """Drop rows whose recent mean loss lies above a percentile of a null distribution.

    Attributes:
        at: When to drop, once.
        percentile: 0 to 100, of the null distribution; smaller drops more.
        recent: Epochs before `at` whose losses are averaged.
        floor_rows: Each class keeps at least this many of its cheapest rows.
        floor_share: Each class keeps at least this share of them.
        cap_share: Each class loses at most this share of its rows; 1 is off. It says the same as
            a `floor_share` of ``1 - cap_share``, and the stricter of the two holds.
        least_loss: Rows below this loss in nats stay, whatever the threshold; 0 turns it off.
        weight: Weight of the chosen rows from then on. 0 removes them from training; 0.5, 0.1
            and 0.01 keep them and weigh them down by 2, 10 and 100. Other rows keep theirs: the
            weights of a batch are not brought back to a mean of one.
    """

    at: Moment = "40%"
    percentile: float = 20.0
    recent: int = 2
    floor_rows: int = 10
    floor_share: float = 0.05
    cap_share: float = 1.0
    least_loss: float = LEAST_LOSS
    weight: float = 0.0

    def __post_init__(self) -> None:
        epoch_of(self.at, 1)
        for field in fields(self):
            if field.name not in _LIMITS:
                continue
            value, (least, most) = getattr(self, field.name), _LIMITS[field.name]
            if not least <= value <= most:
                allowed = f"{least} to {most}" if most < math.inf else f"{least} and above"
                raise SettingsError(
                    f"{self.kind} {field.name} `{value}` is out of range; allowed: {allowed}",
                    hint=f"{field.default} is the default",
                )

    def setup(self, run: Run) -> None:
        """Add the columns; refuse a drop that never comes."""
        self.epoch_ = epoch_of(self.at, run.epochs)
        if not 0 <= self.epoch_ < run.epochs:
            raise SettingsError(
                f"{self.kind} at `{self.at}` is not within a stage of {run.epochs} epochs; "
                f"allowed: epoch 0 to {run.epochs - 1}",
                hint="drop earlier, or train for longer",
            )
        if self.epoch_ == 0:
            run.warn(
                f"{self.kind} has no effect: it would drop rows before the first of "
                f"{run.epochs} epochs; train for longer, or set `at` to a later epoch"
            )
        run.ledger.add(
            self.kind,
            Column(self._column, rule="ring", keep=self.recent),
            standard("dropped"),
            standard("dropped_epoch"),
        )
        if self.weight > 0:
            run.ledger.add(self.kind, Column(self._weight_column, init=1.0))
        self._blank(run, self._column)

    def _blank(self, run: Run, column: str) -> None:
        """Empty a ring, which an earlier stage may have filled."""
        everyone = torch.arange(run.num_rows, device=run.device)
        nothing = torch.full((run.num_rows,), math.nan, device=run.device)
        for _ in range(self.recent):
            run.ledger.write(column, everyone, nothing, stamp=run.tick)

    @property
    def _column(self) -> str:
        return f"{self.kind.replace('-', '_')}_loss"

    @property
    def _weight_column(self) -> str:
        return f"{self.kind.replace('-', '_')}_weight"

    def watching(self, run: Run) -> bool:
        """Tell whether this epoch's losses count."""
        return self.epoch_ - self.recent <= run.epoch < self.epoch_

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Keep the losses of the last epochs before the drop."""
        if not self.watching(run) or 0 not in seen:
            return
        batch = seen[0].plain
        log_probs = run.unmixed(0, seen).log_softmax(1)
        loss = -log_probs.gather(1, batch.given[:, None])[:, 0]
        run.ledger.write(self._column, batch.rows, loss, stamp=run.tick)
        self.record_null(run, batch.rows, log_probs)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Drop once, and leave out what was dropped ever after."""
        if self.weight > 0 and any(lap.pool == "trusted" for lap in plan.laps):
            raise SettingsError(
                f"{self.kind} weight `{self.weight}` does not go with steps on trusted samples, "
                "whose weights it would change as well; allowed there: 0, which removes rows",
                hint="leave `weight` out",
            )
        if run.epoch == self.epoch_ and run.epoch > 0:
            self._drop(run)
        return plan.keep(~run.ledger.read("dropped").cpu())

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Weigh down what was chosen, where it is not removed; before rows are mixed."""
        if self.weight == 0:
            return batch
        factor = run.ledger.read(self._weight_column, batch.rows).to(batch.weight)
        return replace(batch, weight=batch.weight * factor)

    def _drop(self, run: Run) -> None:
        losses = run.ledger.read(self._column).nanmean(1)
        null = percentile_of(self.null_losses(run), self.percentile)
        threshold = max(null, self.least_loss)
        chosen = above_threshold(
            losses,
            run.given,
            threshold,
            floor_rows=self.floor_rows,
            floor_share=self.floor_share,
            cap_share=self.cap_share,
        )
        rows = chosen.nonzero()[:, 0]
        if self.weight > 0:
            factor = torch.full((len(rows),), self.weight, device=run.device)
            run.ledger.write(self._weight_column, rows, factor, stamp=run.tick)
            run.note(self.kind, weighed_down=len(rows), epoch=run.epoch, threshold=threshold)
        else:
            run.ledger.write("dropped", rows, torch.ones_like(rows), stamp=run.tick)
            when = torch.full_like(rows, run.epoch)
            run.ledger.write("dropped_epoch", rows, when, stamp=run.tick)
            run.note("removed", rows=len(rows), epoch=run.epoch, threshold=threshold)
        self._tell(run, chosen, losses, null)

    def _tell(self, run: Run, chosen: Tensor, losses: Tensor, null: float) -> None:
        in_training = ~losses.isnan()
        share = float(chosen.sum() / in_training.sum().clamp_min(1))
        did = "weighed down" if self.weight > 0 else "dropped"
        run.note(self.kind, log_classes=math.log(run.classes), null=null, share=share)
        if null < math.log(run.classes) / 3:
            run.warn(
                f"{self.kind}: {self.percentile:g} % of the null losses are below {null:.2f}, less "
                f"than a third of chance ({math.log(run.classes):.2f}), so wrong labels are hard "
                f"to tell by their loss; rows were {did} above {max(null, self.least_loss):.2f}"
            )
        if share > 0.6:
            run.warn(f"{self.kind} {did} {share:.0%} of the rows; raise `percentile` or drop later")
        for label in range(run.classes):
            members = in_training & (run.given == label)
            gone = float(chosen[members].float().mean()) if members.any() else 0.0
            if gone > max(0.6, 2 * share):
                run.warn(
                    f"{self.kind} {did} {gone:.0%} of class `{run.ledger.classes[label]}`; it "
                    "may be a hard class rather than a wrongly labelled one"
                )

    def null_losses(self, run: Run) -> Tensor:
        """Give losses [n] of labels that are known to be random."""
        raise NotImplementedError

    def record_null(self, run: Run, rows: Tensor, log_probs: Tensor) -> None:
        """Keep what the null distribution needs of one batch."""
