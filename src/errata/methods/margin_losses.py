"""Losses of the margin, older than deep nets: ramp, sigmoid, savage and unhinged.

**Idea.** Cross-entropy lets one hopeless row cost without bound. These losses judge the margin, the
score of the label less the best other one, and stop caring: `ramp` is a hinge cut off at 1,
`sigmoid` and `savage` flatten out on both sides. `unhinged` instead takes the hinge's limit away:
it is linear in the score less the mean score, and symmetric for every number of classes.

**Use it** to check what the theory of robust losses is worth with your net. A net learns wrong
labels by heart with a bounded loss as well; it only takes longer.

**Avoid it** for accuracy, and `ramp` above all: below a margin of 0 its gradient is 0, so that a
row that is not in the lead teaches nothing, and where few are at the start, nothing is learned.
Scores of margin losses are no log-probabilities: confidences mean less.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed. Uniform 40 % (`erm` .854): `unhinged`
.866, `savage` .828, `sigmoid` .810, `ramp` .100, which is chance. The order is that of how flat
they are where a label is far behind: `ramp` has no gradient there at all, the two others hardly
any, so that thirty epochs are too few; `unhinged` has the same one everywhere. Asymmetric 40 %
(`erm` .767): `sigmoid` .781, `savage` .776, `ramp` .100 again.

**Cost.** 1: another formula, nothing else.

**Source.** For nets: Patrini et al. 2017, arXiv:1609.03683, who compare them. Unhinged: van Rooyen,
Menon, Williamson 2015, arXiv:1505.07634. Savage: Masnadi-Shirazi and Vasconcelos 2008.

**Ours.** The notes that errata grew from only name ramp and unhinged; the margin over the best
other class, and the centred score of unhinged, are our reading. Only unhinged is symmetric for
every number of classes; sigmoid is for two, ramp and savage are not. Unhinged has no lower end, so
the scores of a row are kept in a ball of radius 10; Patrini et al. end the net in batch norm
instead.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["RAMP", "SAVAGE", "SIGMOID", "UNHINGED"]


def _card(name: str, summary: str) -> Card:
    return Card(
        name=name,
        summary=summary,
        source="Patrini et al. 2017, arXiv:1609.03683",
        year=2017,
        way="loss",
        text=__doc__ or "",
        build=lambda: Recipe(loss=name),
    )


RAMP = _card("ramp", "a hinge on the margin, cut off at 1")
UNHINGED = _card("unhinged", "a hinge without its bend: linear, symmetric, on bounded scores")
SIGMOID = _card("sigmoid", "the logistic function of the margin, bounded")
SAVAGE = _card("savage", "a squared logistic function of the margin, bounded")
