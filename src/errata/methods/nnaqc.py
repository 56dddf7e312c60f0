"""Put a matrix and a second softmax behind the prediction, and soft bootstrapping beside it.

**Idea.** The prediction s passes a matrix W and a second softmax. The loss is
``alpha (-ln softmax(W s)_y) + (1 - alpha) q``, where q is the cross-entropy of s against a blend of
the label (1 - beta) and of s itself (beta), called quasi-clustering. W learns with the net and is
left out at test time. `nnaqc-instance` makes W a function of the sample, ``W0 + U V h(x)`` with the
features h(x) that enter the head: the note's "W = w(Theta)". The other reading is `goldberger-c`.

**Use it** where labels are confused with each other at random and one stage of training must do.

**Avoid it** with W = I: a prediction sums to one, so no label gets more than ``e / (e + C - 1)``,
.232 with ten classes, and the loss is nearly flat. W starts at ``s I`` with
``s = ln(99 (C - 1))`` instead, where the ceiling is .99.

**The three sentences** on its gradient, in numbers (ten classes, 36 % of each class spread over the
others, W either at its start or fitted to this noise; the docs, "Noise layers"). "More diffuse"
than the linear layer holds for confident predictions alone (above .9), and not where the errors of
a class fall on one other. "Wipes out most of the gradient where prediction and label disagree"
holds: at a confidence of .9, 84 % of that of cross-entropy; but a linear layer that knows the noise
wipes out 86 %, and W at its start a third. "Keeps from overconfidence where they agree" holds at
the start, where the pull at .9 is a seventh of that of cross-entropy and noisy labels leave the net
at a confidence of .47 (.64 with cross-entropy). Once W fits the noise it does not: the pull is 1.2
times as strong, and the net grows sure, as with the linear layer.

**Cost.** 1: a product of [B, C] and [C, C] a step; `nnaqc-instance` needs C^2 numbers a row.

**Source.** Jindal et al. 2019, CVPR workshops, "A Nonlinear, Noise-aware, Quasi-clustering
Approach to Learning Deep CNNs from Noisy Labels".

**Ours.** None of the paper's numbers could be verified: ``alpha = 0.5`` and ``beta = 0.05`` are
neutral choices. The scale of the start is ours (`ceiling` of the loss; ``e / (e + C - 1)`` is the
plain identity). The paper's formula of quasi-clustering is read as soft bootstrapping with the
gradient through the prediction. ``decay`` holds W at its start, or its off-diagonal at zero
(`decay_on`). All of `nnaqc-instance` is ours: `rank` 8, zero at first.

**Measured.** Suite `layers-digits`, mean of two seeds, last epoch: `nnaqc` .765 at uniform 40 %
(`erm` .780) and .809 at asymmetric 30 % (`erm` .747), `nnaqc-instance` .770 and .784. W stays near
its start (its rows are off by .34 where doing nothing is off by .36), since half of the loss asks
the net to fit the given labels: below `erm` at uniform noise for that reason. With W held, .774 and
.769; with the plain identity, .730 and .760. Where errors depend on the sample (three seeds, `erm`
.772): W held .769, `nnaqc` .792, `nnaqc-instance` .804; the layer alone (alpha 1) .799 and .900,
but .591 and .961 in two runs at asymmetric noise. Fashion-MNIST, suite `fashion-10k-30`, uniform 40
%, one seed: `nnaqc` .858, `nnaqc-instance` .860 (`erm` .854); asymmetric 40 %: .769 and .777
(.767).
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.noise_layers import NNAQCLayer

__all__ = ["CARD", "INSTANCE"]


PIPELINE = (
    "network: scores, softmax",
    "a layer W without constraint",
    "second softmax: distribution of the given label",
    "loss: given label, and clusters of the first softmax",
    "prediction: without W",
)

CARD = Card(
    name="nnaqc",
    summary="a matrix and a second softmax behind the prediction, beside soft bootstrapping",
    source="Jindal et al. 2019, CVPR workshops",
    year=2019,
    way="layer",
    pipeline=PIPELINE,
    text=__doc__ or "",
    build=lambda: Recipe(loss="nnaqc", parts=(NNAQCLayer(),)),
)
INSTANCE = Card(
    name="nnaqc-instance",
    summary="NNAQC with a matrix of each sample: a low rank of its features is added",
    source="Jindal et al. 2019, CVPR workshops; the matrix of each sample is ours",
    year=2019,
    way="layer",
    pipeline=PIPELINE,
    text=__doc__ or "",
    build=lambda: Recipe(loss="nnaqc-w", parts=(NNAQCLayer(),)),
)
