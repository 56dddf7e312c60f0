"""Three other ways to put a transition matrix into the loss: backward, row and soft.

**Idea.** T[i, j] is the probability of the given label j where class i is true, s the softmax of
the net. `backward` applies the inverse of T to the cross-entropies of all labels, so that over
the given labels of a class the mean is the cross-entropy of that class. `row` is
``-ln (T s)_y``, and `soft` is ``-T[y] . ln s``: cross-entropy with row y of T in place of the
label y. T is estimated on a plain net first, as in `forward`, or comes from a file.

**Use it** to compare. `backward` is meaningful for every T with an inverse, and unbiased. `row`
equals `forward` where T is symmetric. `soft` is label smoothing, with more on the classes that y
is confused with; that is a correction only where T[y] is the distribution of the true class given
the label y: T symmetric and all classes of one size.

**Avoid it** for training in earnest: take `forward`. `backward` has no lower bound, and with a T
near to singular one row can outweigh all others. For any T that is not symmetric `row` takes rows
for columns: ``T s`` does not even sum to one, and a net gains by predicting classes whose rows of T
are the easiest to hit. `soft` pulls every prediction towards T[y], right labels too.

**Cost.** 1: one sweep, and a product of [B, C] and [C, C] a step; `row` as `forward`.

**Source.** Patrini et al. 2017, arXiv:1609.03683 for `backward`. `row` and `soft` are how notes
on label noise have written the correction down, transposed under their own definition of T.

**Ours.** Shares, estimators and files as in `forward`. A file without a usable inverse (condition
above 1e6) is refused by `backward`; an estimate without one is moved halfway to the identity, with
a warning.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed. Uniform 40 % (`erm` .854, `forward`
.853): `row` .851, `soft` .828, `backward` .701. Asymmetric 40 % (`erm` .767, `forward` .646), where
eight of the ten classes give 40 % of their labels to a look-alike: `row` .471, `soft` .553,
`backward` .280. `backward` falls from .833 and .792, where the first net ends, to .473 and .331
five epochs later: the inverse of a matrix gives losses without a lower end. `row` is the wrong way
round where a class gives labels and gets none. So is `soft`: if dresses keep their labels and
trousers give them 40 %, the mean target of trousers is .36 trousers and .64 dress. At uniform noise
it smooths by a third labels that the noise has spread already. With the true T of
`matrix:neighbours` (suite `transitions`, `erm` .822): `row` .558, `soft` .650, `backward` .783.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.methods.forward import estimated_phases
from errata.parts.transition import TransitionPart

__all__ = ["BACKWARD", "ROW", "SOFT"]

BACKWARD = Card(
    name="backward",
    summary="the inverse of a transition matrix is applied to the losses of all labels",
    source="Patrini et al. 2017, arXiv:1609.03683",
    year=2017,
    way="transition",
    takes=("transition", "clean"),
    text=__doc__ or "",
    build=lambda: estimated_phases("backward", TransitionPart()),
)
ROW = Card(
    name="row",
    summary="forward correction with rows taken for columns; right where T is symmetric",
    source="-",
    year=0,
    way="transition",
    takes=("transition", "clean"),
    text=__doc__ or "",
    build=lambda: estimated_phases("row"),
)
SOFT = Card(
    name="soft",
    summary="the row of a transition matrix takes the place of the label",
    source="-",
    year=0,
    way="transition",
    takes=("transition", "clean"),
    text=__doc__ or "",
    build=lambda: estimated_phases("soft"),
)
