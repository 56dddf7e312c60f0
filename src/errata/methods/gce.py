"""A loss between cross-entropy and mean absolute error, which wrong labels pull less.

**Idea.** ``L_q = (1 - p^q) / q`` for the probability ``p`` of the label. Near ``q = 0`` it is
cross-entropy, at ``q = 1`` it is one minus p. Its gradient is that of cross-entropy times
``p^q``, so rows that the network finds impossible hardly move it.

**Use it** as a cheap baseline against uniform noise, or as the loss of another recipe
(``odd+gce``).

**Avoid it** with very many classes: it learns slowly where p starts near zero. Avoid it also where
a class gives nearly half of its labels to another.

**Cost.** 1: another formula, nothing else.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed, `erm` of the same noise in brackets:
.864 at uniform 40 % (.854), .853 at 30 % by the look of the sample (.813), .869 at rates by class
(.855), but .682 at asymmetric 40 % (.767), where eight of the ten classes give 40 % of their labels
to a look-alike. Rows whose label has hardly any probability have hardly any pull: once the
look-alike leads, it takes all rows of the class, and some classes are never predicted again. `sce`
keeps a tenth of the pull of cross-entropy there and ends at .800.

**Source.** Zhang and Sabuncu 2018, arXiv:1805.07836; `q = 0.7` is the paper's.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="gce",
    summary="generalised cross-entropy, a loss that wrong labels pull less",
    source="Zhang and Sabuncu 2018, arXiv:1805.07836",
    year=2018,
    way="loss",
    text=__doc__ or "",
    build=lambda: Recipe(loss="gce", loss_values={"q": 0.7}),
)
