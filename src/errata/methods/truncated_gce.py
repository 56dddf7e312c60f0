"""Generalised cross-entropy that leaves out, from time to time anew, what the net disbelieves.

**Idea.** Where the label has a probability of `k` or less, the loss is held constant: the row has
no gradient. Doing so from the start would teach nothing, so training begins with all rows. From
`start` on, every `every` epochs, all rows are judged again, and those at or below `k` weigh
nothing until the next judgement. A row can come back.

**Use it** where `gce` alone still learns wrong labels by heart.

**Avoid it** with many classes and few epochs: where most labels are still below one half, most rows
are left out. Raise `start` or lower `k` then.

**Cost.** 1: one pass without gradients over all rows at every judgement.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed: .850 at uniform 40 % (`erm` .854,
`gce` .864), .562 at asymmetric 40 % (`erm` .767, `gce` .682). There `gce` loses classes to their
look-alikes, as its card says, and nearly all rows of a class that is lost are then left out.

**Source.** Zhang and Sabuncu 2018, arXiv:1805.07836: ``q = 0.7``, ``k = 0.5``, from a third of the
epochs on (40 of 120), every 10 of 120 epochs.

**Ours.** Rows are judged by the net as it is, in evaluation mode and without augmentation. The
authors take the best net so far; published code chose that one on test data. Every class keeps its
cheapest rows, at least 10 and 5 %, as in `odd`. Pruned rows weigh 0 in place of costing a constant,
which is the same gradient.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.pruning import Prune

__all__ = ["CARD"]

CARD = Card(
    name="truncated-gce",
    summary="generalised cross-entropy that leaves out labels the net disbelieves",
    source="Zhang and Sabuncu 2018, arXiv:1805.07836",
    year=2018,
    way="loss",
    text=__doc__ or "",
    refuses={
        "clean-only": "it judges rows of the source, and the other trains on none of them",
        **dict.fromkeys(
            ("joint", "joint-hard", "smp", "smp-kmeans", "smp-density-peak", "cascade"),
            "it judges rows by their given labels, and the other puts labels of its own in place",
        ),
    },
    build=lambda: Recipe(loss="gce", loss_values={"q": 0.7}, parts=(Prune(),)),
)
