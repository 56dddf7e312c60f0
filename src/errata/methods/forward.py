"""Let the net predict the true class, and spoil the prediction as the labels were spoiled.

**Idea.** T[i, j] is the probability of the given label j where class i is true. A net with the
softmax s expects the given label by ``s T``, and the loss is ``-ln (s T)_y``: the net that makes
it smallest predicts the true classes. T is estimated on a plain net, trained first: row i is what
it predicts for the row that it is surest of as class i, the anchor. Then a fresh net learns.

**Use it** where labels were confused by class, whatever the sample looks like, and T is known or
every class has samples that are clearly of it. With a file nothing is estimated:
``--set stage.parts.transition-matrix.file=T.csv``. Meaningful for every T whose rows sum to one.

**Avoid it** where the errors depend on the sample, and where the first net learns errors by heart:
its predictions are then no probabilities, and T comes out too near the identity. Mixing in the
first stage flattens predictions, and T with them.

**Cost.** 1: one sweep, and [B, C, C] numbers a step.

**Source.** Patrini et al. 2017, arXiv:1609.03683, "Making Deep Neural Networks Robust to Label
Noise: a Loss Correction Approach".

**Ours.** The first stage takes a third of the epochs; the paper trains both nets in full. The
estimator leaves out what lies above the 97th percentile of a class, as the authors' code does on
all data but CIFAR-100; there ``estimator = "anchor-plain"`` repeats it. Other estimators are named
options of the part. The paper chooses the epoch on noisy validation labels; here the last counts.
With a file the first stage is still trained; it only costs time.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed, `erm` in brackets: .853 at uniform 40
% (.854), .866 at 30 % by the look of the sample (.813), .854 at rates by class (.855), but .646 at
asymmetric 40 % (.767), where eight of the ten classes give 40 % of their labels to a look-alike. T
is only .045 off there. But of two classes that swap 40 %, the labels cost .754 nats on the mean
behind the wrong one and .673 behind the right one, however sure the net is: a fresh net that has
put both into one gains little by telling them apart. Its right labels cost 2.6 nats in the end,
where the first net ended at .56 and was at .792. Suite `transitions`, `matrix:neighbours` (`erm`
.822): .867, T .105 off, and .872 with the true matrix.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Phase, Recipe
from errata.parts.transition import TransitionPart

__all__ = ["CARD", "estimated_phases"]

WARM_UP = 1 / 3


def estimated_phases(loss: str, part: TransitionPart | None = None) -> tuple[Phase, ...]:
    """Estimate a transition matrix on a plain net, then train a fresh one with it.

    Args:
        loss: Of the second stage.
        part: Says how T is estimated; None takes the defaults.
    """
    part = part or TransitionPart()
    return (
        Phase(recipe=Recipe(parts=(part,)), share=WARM_UP),
        Phase(recipe=Recipe(loss=loss, parts=(part,)), share=1 - WARM_UP),
    )


CARD = Card(
    name="forward",
    summary="the prediction is spoiled by an estimated or given transition matrix before the loss",
    source="Patrini et al. 2017, arXiv:1609.03683",
    year=2017,
    way="transition",
    takes=("transition", "clean"),
    text=__doc__ or "",
    build=lambda: estimated_phases("forward"),
)
