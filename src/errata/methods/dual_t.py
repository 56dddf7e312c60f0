"""Estimate a transition matrix as a product of two that are easier to count.

**Idea.** Between the true class and the given label stands the class that a plain net predicts.
From true to predicted class the anchors give a matrix, as in `forward`; from predicted class to
given label rows are simply counted. The product is T, and a fresh net is trained with the loss
``-ln (s T)_y``.

**Use it** where `forward` is the choice but the probabilities of the plain net are off: counts do
not depend on how sure the net is.

**Avoid it** where the plain net has learned the errors by heart, so that it predicts the given
labels: both matrices are then near the identity. Errors that depend on the sample break it as
they break `forward`.

**Cost.** 1, as `forward`.

**Source.** Yao et al. 2020, arXiv:2006.07805, "Dual T: Reducing Estimation Error for Transition
Matrix in Label-noise Learning".

**Ours.** Shares as in `forward`. The paper uses T in several corrections; this recipe takes
forward correction.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed: .853 at uniform 40 % (`erm` .854),
.660 at asymmetric 40 % (.767), for the reason on the card of `forward`; T is .10 off there. Suite
`transitions`, `matrix:neighbours`: .872 (`erm` .822), T .178 off.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.methods.forward import estimated_phases
from errata.parts.transition import TransitionPart

__all__ = ["CARD"]

CARD = Card(
    name="dual-t",
    summary="forward correction by a product of two matrices, by anchors and by counts",
    source="Yao et al. 2020, arXiv:2006.07805",
    year=2020,
    way="transition",
    takes=("transition",),
    text=__doc__ or "",
    build=lambda: estimated_phases("forward", TransitionPart(estimator="dual")),
)
