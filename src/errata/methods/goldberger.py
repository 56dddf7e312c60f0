"""Put a softmax matrix of label errors behind the prediction, started at what a plain net confuses.

**Idea.** First a plain net learns the given labels. How often it predicts class i where label j
was given starts a matrix, ``T_ij = softmax_j(b_ij)``, and then net and matrix learn together,
with the loss ``-ln (s T)_y``. That is the simple model, `goldberger-s`. In the complex model,
`goldberger-c`, the matrix depends on the sample: ``softmax_j(b_ij + u_ij . h(x))`` with the
features h(x) that enter the head.

**Use it** where classes are confused with each other; `goldberger-c` where the errors depend on
how a sample looks within its class.

**Avoid it** where the plain net has learned the errors by heart: then it confuses little, and the
matrix starts near the identity. `goldberger-c` can explain every label by the sample alone, so
that what it finds is not unique.

**Cost.** About 1, one sweep included. The complex model in full has ``C^2 D`` numbers.

**Source.** Goldberger and Ben-Reuven 2017, ICLR, "Training deep neural-networks using a noise
adaptation layer".

**Ours.** ``u_ij . h(x)`` has a low rank, 8 (`rank`), and starts at 0, as in the authors' code. The
plain phase takes 30 % of the epochs. ``counts = "hard"`` is the default of their code, ``"soft"``
adds up probabilities as the paper's formula does. A class that is never predicted starts near the
identity. The complex model starts from the confusion matrix, as in the runs listed with the code;
the poster says from a trained simple model. ``detach`` holds its gradient back from the features.
``plain_share`` weighs the loss of the net itself, 0 in their runs.

**Measured.** Suite `layers-digits`, mean of two seeds, last epoch: `goldberger-s` .790 at uniform
40 % (`erm` .780) and .825 at asymmetric 30 % (`erm` .747), `goldberger-c` .779 and .837; where
errors depend on the sample (three seeds, `erm` .772) .806 and .817. On so few rows the net learns
the errors by heart behind the matrix as well: at uniform noise it was at .96 on the way.
Fashion-MNIST, suite `fashion-10k-30`, uniform 40 %, one seed: .863 and .862 (`erm` .854). At
asymmetric 40 %, where eight of the ten classes give 40 % of their labels to a look-alike, they end
at .667 and .693 (.767), though the plain phase was at .776 and the matrices are only .08 and .06
off: the second phase begins at the full learning rate, and behind such a matrix a net that has lost
a class to its look-alike gains little by learning it again (numbers on the card of `forward`).
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Phase, Recipe
from errata.parts.noise_layers import GoldbergerLayer

__all__ = ["CARD", "COMPLEX"]


def _phases(loss: str) -> tuple[Phase, ...]:
    layered = Recipe(loss=loss, parts=(GoldbergerLayer(),))
    return Phase(share=0.3), Phase(recipe=layered, share=0.7, reset=False)


CARD = Card(
    name="goldberger-s",
    summary="a softmax matrix behind the prediction, started at the confusion of a plain net",
    source="Goldberger and Ben-Reuven 2017, ICLR",
    year=2017,
    way="layer",
    text=__doc__ or "",
    build=lambda: _phases("goldberger-s"),
)
COMPLEX = Card(
    name="goldberger-c",
    summary="the same with a matrix of each sample: a low rank of its features is added",
    source="Goldberger and Ben-Reuven 2017, ICLR",
    year=2017,
    way="layer",
    text=__doc__ or "",
    build=lambda: _phases("goldberger-c"),
)
