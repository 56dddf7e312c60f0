"""Labels that come from what nets predicted earlier: made in one stage, used there and later.

Shapes: B batch, N rows, n some rows, K length of a ring, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.ledger import Column, standard
from errata.losses.pointwise import one_hot
from errata.parts.base import Part, register_part
from errata.parts.penalties import draw_balanced
from errata.transition import estimate_by_counts, weigh_by_given
from errata.transition_fit import weigh_by_given_fitted
from errata.types import Batch, Moment, Plan, Run, Seen, epoch_of

__all__ = [
    "RelabelFromHistory",
    "UseLabels",
    "believe",
    "mean_of_ring",
    "moved_share",
    "one_hot_share",
    "predicted_probs",
    "refuse_mixed",
    "refuse_trusted",
]

_BLOCK = 2**24
"""Values of a ring that are held in float32 at once."""


def mean_of_ring(ring: Float[Tensor, "n K C"]) -> Float[Tensor, "n C"]:
    """Average the predictions that a ring holds, in float32; each result sums to 1.

    Args:
        ring: [n, K, C]; places not filled yet are NaN and do not count. A row without any entry
            gives NaN.
    """
    mean = ring.float().nanmean(1)
    return mean / mean.sum(1, keepdim=True)


def believe(target: Float[Tensor, "B C"], belief: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Replace targets by label distributions, and keep their mass.

    Args:
        target: [B, C] of any mass.
        belief: [B, C] distributions; a row of NaN keeps its target.

    Example:
        >>> nothing = [float("nan")] * 2
        >>> believe(2 * torch.eye(2), torch.tensor([[0.25, 0.75], nothing]))
        tensor([[0.5000, 1.5000],
                [0.0000, 2.0000]])
    """
    moved = target.sum(1, keepdim=True) * belief.to(target)
    return torch.where(belief.isnan().any(1, keepdim=True), target, moved)


def one_hot_share(soft: Float[Tensor, "n C"], *, sure: float = 0.99) -> float:
    """Give the share of label distributions with one class above `sure`: they no longer move."""
    return float((soft.max(1).values > sure).float().mean()) if len(soft) else 0.0


def moved_share(before: Int[Tensor, " n"], after: Int[Tensor, " n"]) -> float:
    """Give the share of labels that differ."""
    return float((before != after).float().mean()) if len(before) else 0.0


def predicted_probs(run: Run, seen: Mapping[int, Seen]) -> Float[Tensor, "B C"]:
    """Give the mean softmax of the nets of a step on the batch as drawn, in training mode.

    Free where rows were not mixed; else one more forward pass per net, shared by all parts.
    """
    return torch.stack([run.unmixed(net, seen).softmax(1) for net in seen]).mean(0)


def refuse_mixed(part: Part, batch: Batch) -> None:
    """Refuse a batch whose rows were mixed before their labels are replaced.

    Raises:
        SettingsError: They were.
    """
    if not batch.pure:
        raise SettingsError(
            f"{part.kind} cannot replace the labels of rows that were mixed before; allowed: "
            f"{part.kind} first",
            hint="name the recipe that mixes last",
        )


def refuse_trusted(part: Part, plan: Plan) -> None:
    """Refuse steps on trusted samples, whose rows are not those of the ledger.

    Raises:
        SettingsError: The plan has some.
    """
    if any(lap.pool == "trusted" for lap in plan.laps):
        raise SettingsError(
            f"{part.kind} does not go with steps on trusted samples, which it has no labels for; "
            "allowed: training rows",
            hint="train on them afterwards: add `+finetune`",
        )


@dataclass(kw_only=True)
class RelabelFromHistory(Part):
    """Replace labels by the mean of the newest predictions, anew after every epoch.

    Predictions are those of training itself: training mode, augmented, the weights changing within
    the epoch. They go into a ring; from the end of epoch `start` on, after every epoch, the soft
    label of a row is the mean of its ring, and `corrected` the class with the largest share.
    Under mixing, an un-mixed forward pass is needed for every step whose predictions count. Rows
    that were never seen keep their label. Source: Tanaka et al. 2018.

    Attributes:
        start: Epochs before the first update; at least one. A share waits until the ring is full,
            or the stage over.
        keep: Predictions of a row that are averaged.
        hard: Trains on the class with the largest share instead of the distribution.
        ask_given: Weighs the mean prediction by how likely each class makes the given label
            (`errata.transition.weigh_by_given`), with the transition matrix counted anew from the
            predictions themselves; else the given label is forgotten, as in the paper.
        ask_fitted: The same, with that matrix and the temperature fitted to the given labels
            (`errata.transition_fit.weigh_by_given_fitted`).
    """

    start: Moment = "35%"
    keep: int = 10
    hard: bool = False
    ask_given: bool = False
    ask_fitted: bool = False

    def __post_init__(self) -> None:
        epoch_of(self.start, 1)
        if self.keep < 1:
            raise SettingsError(
                f"{self.kind} keep `{self.keep}` is out of range; allowed: 1 and above",
                hint=f"{RelabelFromHistory.keep} is the default",
            )

    def setup(self, run: Run) -> None:
        """Add the columns; refuse a start after the last epoch."""
        start = epoch_of(self.start, run.epochs)
        if not 0 <= start <= run.epochs:
            raise SettingsError(
                f"{self.kind} start `{self.start}` is not within a stage of {run.epochs} epochs; "
                f"allowed: 0 to {run.epochs}",
                hint="start earlier, or train for longer",
            )
        if str(self.start).strip().endswith("%"):
            start = max(start, min(self.keep, run.epochs))
        self.epoch_ = max(1, start)
        run.ledger.add(
            self.kind,
            standard("history", keep=self.keep, shape=(run.classes,)),
            standard("soft_label", shape=(run.classes,)),
            standard("corrected"),
            Column("first_corrected", dtype=torch.int64, init=-1),
        )
        if run.ledger.filled("history").any():
            self._blank(run)
        for name in ("moving", "onehot"):
            place = f"{self._word}_{name}"
            run.memory[place] = torch.full((run.epochs,), math.nan, device=run.device)

    @property
    def _word(self) -> str:
        return self.kind.replace("-", "_")

    def _blank(self, run: Run) -> None:
        """Forget the labels of an earlier stage."""
        everyone = torch.arange(run.num_rows, device=run.device)
        nothing = torch.full((run.num_rows, run.classes), math.nan, device=run.device)
        for column in (*["history"] * self.keep, "soft_label"):
            run.ledger.write(column, everyone, nothing, stamp=run.tick)
        for column in ("corrected", "first_corrected"):
            none = torch.full((run.num_rows,), -1, device=run.device)
            run.ledger.write(column, everyone, none, stamp=run.tick)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Refuse rows that the ledger does not know."""
        refuse_trusted(self, plan)
        return plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Put the new labels in place of the given ones."""
        refuse_mixed(self, batch)
        if run.epoch < self.epoch_:
            return batch
        belief = _beliefs(run, "corrected" if self.hard else "soft_label", batch.rows)
        return replace(batch, target=believe(batch.target, belief))

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Keep the predictions that the next labels are made of."""
        if run.epoch >= self.epoch_ - self.keep and seen:
            rows = next(iter(seen.values())).plain.rows
            run.ledger.write("history", rows, predicted_probs(run, seen), stamp=run.tick)

    def after_epoch(self, run: Run) -> None:
        """Make the labels of the next epoch."""
        if run.epoch + 1 < self.epoch_:
            return
        everyone = torch.arange(run.num_rows, device=run.device)
        block = max(1, _BLOCK // (self.keep * run.classes))
        parts = (run.ledger.read("history", part) for part in torch.split(everyone, block))
        soft = torch.cat([mean_of_ring(part) for part in parts])
        rows = (~soft.isnan().any(1)).nonzero()[:, 0]
        soft, given = soft[rows], run.given[rows]
        if self.ask_fitted:
            soft, temperature = weigh_by_given_fitted(soft, given)
            run.note(self.kind, temperature=temperature)
        elif self.ask_given:
            soft = weigh_by_given(soft, given, estimate_by_counts(soft, given))
        labels = soft.argmax(1)
        before = run.ledger.read("corrected", rows)
        before = torch.where(before >= 0, before, run.given[rows])
        run.ledger.write("soft_label", rows, soft, stamp=run.tick)
        first = run.epoch + 1 == self.epoch_
        for name in ("corrected", "first_corrected") if first else ("corrected",):
            run.ledger.write(name, rows, labels, stamp=run.tick)
        self._tell(run, rows, soft, before)

    def _tell(self, run: Run, rows: Tensor, soft: Tensor, before: Tensor) -> None:
        given, labels = run.given[rows], soft.argmax(1)
        moving, onehot = moved_share(before, labels), one_hot_share(soft)
        changed = moved_share(given, labels)
        run.memory[f"{self._word}_moving"][run.epoch] = moving
        run.memory[f"{self._word}_onehot"][run.epoch] = onehot
        if run.epoch + 1 == self.epoch_:
            run.note(self.kind, first_epoch=run.epoch, first_share_changed=changed)
        run.note(
            self.kind,
            last_epoch=run.epoch,
            last_share_changed=changed,
            share_moving=moving,
            share_onehot=onehot,
        )
        if run.epoch + 1 < run.epochs:
            return
        held, left = (torch.bincount(each, minlength=run.classes) for each in (given, labels))
        for label in ((held > 0) & (left == 0)).nonzero()[:, 0].tolist():
            run.warn(
                f"{self.kind} has moved every row of class `{run.ledger.classes[label]}` "
                "elsewhere; raise `alpha`, or start later"
            )


def _beliefs(run: Run, column: str, rows: Tensor) -> Tensor:
    """Read label distributions [B, C] of a column; NaN for rows that it says nothing of."""
    values = run.ledger.read(column, rows)
    if column == "soft_label":
        return values
    return torch.where(values[:, None] >= 0, one_hot(values, run.classes), math.nan)


_COLUMNS = ("soft_label", "corrected")


@register_part("use-labels")
@dataclass(kw_only=True)
class UseLabels(Part):
    """Train on the labels that an earlier stage left in the ledger.

    Rows that the column says nothing of keep their given label.

    Attributes:
        column: ``soft_label`` or ``corrected``.
        balanced: Draws every given class equally often.
    """

    column: str = "soft_label"
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.column not in _COLUMNS:
            raise unknown_name(f"{self.kind} column", self.column, _COLUMNS)

    def setup(self, run: Run) -> None:
        """Warn where there are no such labels."""
        self.found_ = run.ledger.has(self.column)
        if not self.found_:
            run.warn(
                f"{self.kind} has no effect: no earlier stage has written `{self.column}`; put a "
                "stage before it that does"
            )

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Draw the classes equally often where asked."""
        refuse_trusted(self, plan)
        return draw_balanced(plan) if self.balanced else plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Put the labels of the column in place of the given ones."""
        refuse_mixed(self, batch)
        if not self.found_:
            return batch
        belief = _beliefs(run, self.column, batch.rows)
        return replace(batch, target=believe(batch.target, belief))
