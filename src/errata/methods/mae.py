"""Mean absolute error between prediction and label: robust in theory, slow in practice.

**Idea.** ``2 (1 - p)`` for the probability ``p`` of the label. Summed over all labels it is the
same for every prediction, so uniform noise changes what it costs by a constant and leaves the best
classifier where it was.

**Use it** as the control of every claim that a loss alone makes training robust, with few classes
and many epochs.

**Avoid it** for accuracy: a row that the net gets wrong has almost no gradient, right or wrong
label alike. With ten classes some are often never learned, with a hundred hardly any is.

**Cost.** 1: another formula, nothing else.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed: .820 at uniform 40 % (`erm` .854),
still rising after thirty epochs, and .468 at asymmetric 40 % (.767), for the reason on the card of
`gce`, only worse: its pull falls with p, that of `gce` with ``p^0.7``.

**Source.** Ghosh, Kumar, Sastry 2017, arXiv:1712.09482.

**Ours.** The distance of the paper, ``2 (1 - p)``. Code of Ma et al. 2020 takes half of it, which
is a learning rate of half the size.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="mae",
    summary="mean absolute error: symmetric, and hard to train with",
    source="Ghosh et al. 2017, arXiv:1712.09482",
    year=2017,
    way="loss",
    text=__doc__ or "",
    build=lambda: Recipe(loss="mae"),
)
