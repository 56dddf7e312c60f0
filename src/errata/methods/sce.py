"""Cross-entropy in both directions: what the label says of the prediction, and the reverse.

**Idea.** ``alpha CE + beta RCE``. Reverse cross-entropy codes the prediction by the label, with a
number in place of ln 0; it is ``mae`` times a constant. It is robust and learns slowly,
cross-entropy the other way round.

**Use it** like `gce`, as a cheap baseline or as the loss of another recipe (``odd+sce``).

**Avoid it** without setting `alpha` and `beta` for your number of classes: the authors take 0.1 and
1 for CIFAR-10, 6 and 0.1 for CIFAR-100, 0.01 and 1 for MNIST.

**Cost.** 1: another formula, nothing else.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed, `erm` of the same noise in brackets:
.875 at uniform 40 % (.854), .800 at asymmetric 40 % (.767), .871 at 30 % by the look of the sample
(.813), .874 at rates by class (.855). Where `gce` and `mae` lose classes to their look-alikes, the
tenth of cross-entropy keeps them.

**Source.** Wang, Ma, Chen, Luo, Yi, Bailey 2019, arXiv:1908.06112. The number for ln 0 is ln 1e-4,
as in their code; the text of the paper also discusses -4.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="sce",
    summary="symmetric cross-entropy, the label's cost and the prediction's",
    source="Wang et al. 2019, arXiv:1908.06112",
    year=2019,
    way="loss",
    text=__doc__ or "",
    build=lambda: Recipe(loss="sce"),
)
