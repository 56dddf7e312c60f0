"""Put a free matrix with dropout behind the prediction, and a second softmax.

**Idea.** The prediction s passes a linear layer without bias that starts at the identity, dropout
of its outputs, and a second softmax; the loss is the cross-entropy of that. The layer takes up the
errors of the labels, and dropout keeps it from learning them by heart. At test time it is left
out.

**Use it** to compare with `nnaqc`, whose layer is this one without dropout.

**Avoid it** where predictions must be calibrated. A prediction sums to one, so behind the identity
no label gets more than ``e / (e + C - 1)``: .232 with ten classes, .0027 with 1000. The loss is
nearly flat at first, and the net sharpens its predictions to make up for it.

**Cost.** 1: a product of [B, C] and [C, C] a step.

**Source.** Jindal, Nokleby and Chen 2016, arXiv:1705.03419; their code drops outputs of the layer,
at .1, where the abstract says weights.

**Ours.** `scale` of the loss multiplies the identity it starts at (1 is the paper's). What is
dropped depends on the id of a row and on the step, never on its place in the batch.

**Measured.** Suite `layers-digits`, mean of two seeds, last epoch: .914 at uniform 40 % (`erm`
.780), the best of the layers, and .705 at asymmetric 30 % (`erm` .747), the worst: presumably
nothing keeps the free matrix from swapping two classes that the noise joins. Fashion-MNIST, suite
`fashion-10k-30`, uniform 40 %, one seed: .659 (`erm` .854), from the first epochs on. Two classes
are then never predicted, and the matrix gives their labels to others: nothing ties it to them. At
asymmetric 40 % it ends at .389 (.767) for the same reason, with a matrix that is .46 off.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.noise_layers import JindalLayer

__all__ = ["CARD"]

CARD = Card(
    name="jindal",
    summary="a free matrix with dropout behind the prediction, and a second softmax",
    source="Jindal, Nokleby, Chen 2016, arXiv:1705.03419",
    year=2016,
    way="layer",
    text=__doc__ or "",
    build=lambda: Recipe(loss="jindal", parts=(JindalLayer(),)),
)
