"""Train nets in turn, each on the rows that the one before kept or gave another label.

**Idea.** The first net trains on all rows. At the end of its stage its mean prediction of each row,
made while it trained, judges the label: a row goes on where the net agrees, or goes on under
another class where the net is surer of that than `sure`; the rest is left out. A fresh net trains
on what went on, and so forth. Rows left out are judged again by every later net, and may come back.

**Use it** as a plain reference for methods that choose or correct rows: each stage leaves its rows
and their labels in the ledger (``stage_label``, one entry per stage), so that it can be seen
where labels get better and where they stop. ``cascade:5`` has five stages, `cascade` three.

**Avoid it** for few epochs: the stages share them, and a net that has hardly learned leaves out
most rows. What one net gets wrong surely, the next one is taught. Hard and rare classes lose rows
first; `floor_rows` and `floor_share` keep those that look most like their class.

**Cost.** About 1: the stages share the epochs, later ones have fewer rows, and the rows left out
cost one forward pass per stage. With mixup, each step of all stages but the last costs one more.
On Fashion-MNIST (suite `fashion-10k-30`, one seed) it ends at .823 at uniform 40 % (`erm` .854),
since each net has ten of the thirty epochs and is taught what the one before got wrong (.857 of
the labels are right at the end), and at .776 at asymmetric 40 % (`erm` .767).

**Source.** The seed notes of this project, which name a cascade and give no rule.

**Ours.** All of it: `judge_rows`, stages of equal length, fresh weights in every stage, predictions
averaged over the stage as single ones move from epoch to epoch.
"""

# Shapes: B batch, N rows, n labelled rows, C classes.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.ledger import Column, standard
from errata.losses.pointwise import one_hot
from errata.methods.card import Card
from errata.methods.joint import REFUSES
from errata.parts.base import Part, Phase, Recipe, register_part
from errata.parts.relabel import believe, predicted_probs, refuse_mixed, refuse_trusted
from errata.types import Batch, Plan, Run, Seen

__all__ = ["CARD", "Cascade", "cascade_phases", "judge_rows"]

STAGES = 3
MOST_STAGES = 20


def judge_rows(
    probs: Float[Tensor, "n C"],
    labels: Int[Tensor, " n"],
    *,
    sure: float = 0.8,
    floor_rows: int = 10,
    floor_share: float = 0.05,
) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
    """Decide under which label rows go on, and which are left out.

    A row goes on where its label is the predicted class, and where another class is predicted
    with a probability above `sure`, under that class. The rest is left out. Our rule.

    Args:
        probs: [n, C] predictions.
        labels: [n] class of each row so far.
        sure: 0 moves every row that the net disagrees with and leaves none out; 1 moves none.
        floor_rows: Each class keeps, under its label, at least this many rows ...
        floor_share: ... and this share of them: those that look most like it.

    Returns:
        The labels, those of rows left out unchanged, and which rows go on.

    Example:
        >>> probs = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
        >>> judge_rows(probs, torch.tensor([0, 0, 0]), floor_rows=0, floor_share=0.0)
        (tensor([0, 0, 1]), tensor([ True, False,  True]))
    """
    highest, best = probs.max(1)
    kept = (best == labels) | (highest > sure)
    moved = torch.where(kept, best, labels)
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero()[:, 0]
        count = max(floor_rows, math.ceil(floor_share * len(members)))
        likest = members[(-probs[members, label]).argsort(stable=True)[:count]]
        moved[likest] = label
        kept[likest] = True
    return moved, kept


_LIMITS: dict[str, tuple[float, float]] = {
    "stages": (1, MOST_STAGES),
    "sure": (0, 1),
    "floor_rows": (0, math.inf),
    "floor_share": (0, 1),
}


@register_part("cascade")
@dataclass(kw_only=True)
class Cascade(Part):
    """One stage: trains on what the stage before left, and judges the rows for the next.

    Attributes:
        stage: Which stage this is, from 0.
        stages: How many there are; the last one judges nothing.
        sure: See `judge_rows`.
        floor_rows: See `judge_rows`.
        floor_share: See `judge_rows`.
    """

    stage: int = 0
    stages: int = STAGES
    sure: float = 0.8
    floor_rows: int = 10
    floor_share: float = 0.05

    def __post_init__(self) -> None:
        limits = {**_LIMITS, "stage": (0, self.stages - 1)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                words = f"{least} to {most}" if most < math.inf else f"{least} and above"
                raise SettingsError(
                    f"cascade {name} `{value}` is out of range; allowed: {words}",
                    hint="`cascade:4` has four stages, `cascade` has three"
                    if name.startswith("stage")
                    else f"{getattr(Cascade, name)} is the default",
                )

    def setup(self, run: Run) -> None:
        """Add the columns, and forget the predictions of the stage before."""
        run.ledger.add(
            self.kind,
            standard("corrected"),
            Column("cascade_lost", dtype=torch.int32, init=-1),
            Column("stage_label", dtype=torch.int16, rule="ring", keep=self.stages, init=-1),
            Column("cascade_prob", shape=(run.classes,), init=0.0),
            Column("cascade_views", dtype=torch.int32),
        )
        everyone = torch.arange(run.num_rows, device=run.device)
        if run.ledger.filled("cascade_views").any():
            nothing = torch.zeros(run.num_rows, run.classes, device=run.device)
            run.ledger.write("cascade_prob", everyone, nothing, stamp=run.tick)
            run.ledger.write("cascade_views", everyone, nothing[:, 0], stamp=run.tick)
        if self.stage == 0 and run.ledger.filled("cascade_lost").any():
            none = torch.full((run.num_rows,), -1, device=run.device)
            for column in ("corrected", "cascade_lost"):
                run.ledger.write(column, everyone, none, stamp=run.tick)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Leave out what the stage before left out."""
        refuse_trusted(self, plan)
        return plan.keep((run.ledger.read("cascade_lost") < 0).cpu())

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Put the labels of the stage before in place of the given ones."""
        refuse_mixed(self, batch)
        belief = one_hot(self._labels(run, batch.rows), run.classes)
        return replace(batch, target=believe(batch.target, belief))

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Move the mean prediction of the rows over this stage."""
        if self.stage + 1 == self.stages or not seen:
            return
        rows = next(iter(seen.values())).plain.rows
        views = run.ledger.read("cascade_views", rows) + 1
        past = run.ledger.read("cascade_prob", rows)
        mean = past + (predicted_probs(run, seen).to(past) - past) / views[:, None]
        run.ledger.write("cascade_prob", rows, mean, stamp=run.tick)
        run.ledger.write("cascade_views", rows, views, stamp=run.tick)

    def after_epoch(self, run: Run) -> None:
        """At the end of the stage, record its labels and judge the rows for the next."""
        if run.epoch + 1 < run.epochs:
            return
        rows = (run.given >= 0).nonzero()[:, 0]
        labels = self._labels(run, rows)
        trained = run.ledger.read("cascade_lost", rows) < 0
        recorded = torch.where(trained, labels, -1)
        run.ledger.write("stage_label", rows, recorded, stamp=run.tick)
        changed = trained & (labels != run.given[rows])
        name = f"stage_{self.stage + 1}"
        run.note(
            "cascade", **{f"{name}_rows": int(trained.sum()), f"{name}_changed": int(changed.sum())}
        )
        if self.stage + 1 < self.stages:
            self._judge(run, rows, labels)

    def _labels(self, run: Run, rows: Tensor) -> Tensor:
        corrected = run.ledger.read("corrected", rows)
        return torch.where(corrected >= 0, corrected, run.given[rows])

    def _judge(self, run: Run, rows: Tensor, labels: Tensor) -> None:
        moved, kept = judge_rows(
            self._predictions(run, rows),
            labels,
            sure=self.sure,
            floor_rows=self.floor_rows,
            floor_share=self.floor_share,
        )
        run.ledger.write("corrected", rows, torch.where(kept, moved, -1), stamp=run.tick)
        lost = torch.where(kept, -1, self.stage)
        run.ledger.write("cascade_lost", rows, lost, stamp=run.tick)
        share = float((~kept).float().mean())
        if share > 0.6:
            run.warn(
                f"cascade leaves out {share:.0%} of the rows after stage {self.stage + 1}; lower "
                "`sure`, or train for longer"
            )

    def _predictions(self, run: Run, rows: Tensor) -> Tensor:
        """Give the mean prediction [n, C] in training, and for rows left out that of a sweep."""
        probs = run.ledger.read("cascade_prob", rows)
        away = (run.ledger.read("cascade_views", rows) == 0).nonzero()[:, 0]
        if len(away):
            swept = [run.sweep(k, rows[away])[0].softmax(1) for k in range(len(run.nets))]
            probs[away] = torch.stack(swept).mean(0).to(probs)
        return probs


def cascade_phases(stages: int = STAGES) -> tuple[Phase, ...]:
    """Build the stages, of equal length, each with a fresh net.

    Raises:
        SettingsError: There are too few or too many.
    """
    if not 2 <= stages <= MOST_STAGES:
        raise SettingsError(
            f"cascade stages `{stages}` is out of range; allowed: 2 to {MOST_STAGES}",
            hint="for example `cascade:4`; a single stage is `erm`",
        )
    return tuple(
        Phase(recipe=Recipe(parts=(Cascade(stage=k, stages=stages),)), share=1 / stages)
        for k in range(stages)
    )


CARD = Card(
    name="cascade",
    summary="nets in turn, each on the rows that the one before kept or relabelled",
    source="-",
    year=0,
    way="cascade",
    text=__doc__ or "",
    refuses=REFUSES,
    build=cascade_phases,
    variant=cascade_phases,
)
