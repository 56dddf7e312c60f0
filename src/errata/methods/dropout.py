"""Set random features to zero before the last layer, so that no few of them hold a wrong label.

**Idea.** In every step each feature of a row that enters the last layer is zero with probability
`rate`, and the others are scaled up by ``1 / (1 - rate)``. A label that can only be known by heart
needs many features at once, and these are rarely all there.

**Use it** as a control, as the tables of mixup and later papers do, and together with others
(``odd+dropout``). Against many wrong labels large rates did best there: 0.7 and 0.8.

**Avoid it** where features are few, or where you read losses of single steps: in training mode they
carry the noise of the mask.

**Cost.** 1: one mask per step.

**Source.** Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014, "Dropout: A Simple Way to
Prevent Neural Networks from Overfitting" (JMLR 15). Against wrong labels: Arpit et al. 2017,
arXiv:1706.05394.

**Ours.** Dropout before the head only, which every net has; the papers place it inside the net as
well, for which a model with dropout layers serves. The mask of a row follows its id, so that the
order of a batch does not matter. It is applied in the forward pass that is learned from: un-mixed
predictions under mixup are made without it.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.thinning import Dropout

__all__ = ["CARD"]

CARD = Card(
    name="dropout",
    summary="random features are zero before the last layer (a control)",
    source="Srivastava et al. 2014, Dropout (JMLR 15)",
    year=2014,
    way="brake",
    text=__doc__ or "",
    build=lambda: Recipe(parts=(Dropout(),)),
)
