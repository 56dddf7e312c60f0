"""Squared error between prediction and label: bounded, so that no label costs much.

**Idea.** The squared distance of the softmax from the label, also called Brier score. No row can
cost more than 2, and the gradient of a hopeless row is small.

**Use it** as a cheap baseline between cross-entropy and `mae`: it trains well and learns wrong
labels by heart later than cross-entropy.

**Avoid it** where noise is heavy and training long: it is bounded, not symmetric, and memorises in
the end.

**Cost.** 1: another formula, nothing else.

**Source.** Ghosh, Kumar, Sastry 2017, arXiv:1712.09482, where it is compared; the score is that of
Brier 1950.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="mse",
    summary="squared error of the probabilities, bounded",
    source="Ghosh et al. 2017, arXiv:1712.09482",
    year=2017,
    way="loss",
    text=__doc__ or "",
    build=lambda: Recipe(loss="mse"),
)
