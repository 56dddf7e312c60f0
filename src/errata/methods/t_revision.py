"""Weigh each label by how likely it is right, then learn a small correction of the matrix.

**Idea.** A transition matrix T is estimated by anchors on a plain net. Then cross-entropy is
weighed by ``s_y / (s T)_y``, how much likelier the label is as the true class than as a given one,
taken as a constant. At last T gets a slack, zero at first, which learns with the net through the
weight. The slack is one matrix for all rows.

**Use it** where labels were confused by class and no class has perfect anchors: the slack mends
what the estimate missed.

**Avoid it** with 80 % wrong labels and more; a later study reports that it collapses there. A row
whose label the net finds impossible has a weight near 0, so a net that is wrong about a whole
class is never told.

**Cost.** 1: one sweep, and [B, C, C] numbers a step.

**Source.** Xia et al. 2019, arXiv:1906.00189, "Are Anchor Points Really Indispensable in
Label-Noise Learning?".

**Ours.** Shares of the epochs: .2, .4 and .4; in the paper the last two are equally long. The net
goes on through all stages. The last stage has Adam with the paper's 5e-7, which moves T by
5e-7 a step: in a short run by nothing, so raise ``lr_scale`` of the slack there. Weights are at
most 1000, and entries of T plus slack at least 1e-12. Rows of T plus slack keep the sums they come
to, as in the authors' code; ``rows = "normalised"`` divides by them.

**Measured.** Fashion-MNIST, 30 epochs, one seed. Suite `transitions`, `matrix:neighbours` (`erm`
.822): .862, rows .120 off before and after the slack. Suite `fashion-10k-30`, uniform 40 %: .853
(`erm` .854); asymmetric 40 %: .823 (.767), T .05 off, where `forward` with a fresh net ends at
.646.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import OptimizerSpec, Phase, Recipe
from errata.parts.transition import RevisedTransition, TransitionPart

__all__ = ["CARD"]

REVISION = OptimizerSpec(kind="adamw", lr=5e-7, weight_decay=0.0, schedule="constant")


def _phases() -> tuple[Phase, ...]:
    part = TransitionPart()
    revision = Recipe(loss="t-revision", parts=(part, RevisedTransition()))
    return (
        Phase(recipe=Recipe(parts=(part,)), share=0.2),
        Phase(recipe=Recipe(loss="reweight", parts=(part,)), share=0.4, reset=False),
        Phase(recipe=revision, share=0.4, optimizer=REVISION, reset=False),
    )


CARD = Card(
    name="t-revision",
    summary="labels weighed by an estimated transition matrix, which then learns a slack",
    source="Xia et al. 2019, arXiv:1906.00189",
    year=2019,
    way="transition",
    takes=("transition", "clean"),
    text=__doc__ or "",
    build=_phases,
)
