"""Rank the label above all other classes, with the most weight on the top of the list.

**Idea.** A class violates the label where its score comes within a margin of one. The loss is the
mean hinge of the r violators times ``L(r) = 1 + 1/2 + ... + 1/r``: it pays to bring the label
from the second place to the first, and hardly from the 900th to the 899th. The gradient treats
the weight as a constant.

**Use it** for many classes (hundreds and more), where the first few places are what counts. The
loss is the exact one by default, from one sort per row: memory grows with the number of classes.

**Avoid it** with wrong labels: it is **not** robust. A wrong label stands low, so it has many
violators and gets the largest weight of all. It takes part here as a control, and for heads with
many classes whose rows are chosen or weighed by something else (``odd+warp``). Its scores are no
log-probabilities: what is read from their softmax (losses, confidence, detectors) means less.

**Variants.** ``alphas = "uniform"`` is the mean rank, ``"first"`` counts only whether anything
stands above the label. ``sampler = "exact-rank"`` draws one violator and weighs it by ``L(r)``: its
mean is the exact loss. ``"estimate"`` is the sampler of the paper, which guesses r from the number
of draws. That guess is biased: for one violator among 1,000 classes it is missed in 37 % of the
cases, and for ten the mean weight is 3.43 instead of 2.93 (`errata.losses.warp`). Both are for
comparison; they save little here, as the exact ranks are cheap.

**Cost.** 1 for few classes: a sort per row, which for 1,000 classes takes many times as long as
cross-entropy.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, uniform 40 %, one seed: .859 (`erm` .854). So
after thirty epochs it has not learned more wrong labels by heart than cross-entropy has; that is no
robustness. With many classes, which it is made for, it was not measured.

**Source.** Weston, Bengio, Usunier 2011, "WSABIE: Scaling Up To Large Vocabulary Image Annotation".
The step from the rank to a weight that grows with its logarithm has been criticised as unsound;
take it for a heuristic.

**Ours.** The paper projects its weights into a ball after each step; here weight decay keeps them
small. The violators of the matrix's other columns are drawn apart, so that soft labels work.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="warp",
    summary="a ranking loss for many classes; a control, as wrong labels weigh most in it",
    source="Weston, Bengio, Usunier 2011, WSABIE (IJCAI)",
    year=2011,
    text=__doc__ or "",
    build=lambda: Recipe(loss="warp"),
)
