"""Draw every class equally often, by the labels as given.

**Idea.** Rows of rare classes are drawn again within an epoch and those of frequent ones now and
then left out, so that every class has the same say. An epoch keeps its length.

**Use it** where classes differ in size and the rare ones count, alone or with others
(``balanced+mixup``).

**Avoid it** where a rare class has many wrong labels: each of them is then learned many times over.
Rows of frequent classes are seen in few epochs, so their statistics come from fewer epochs; where
one class outweighs all others, a short training never sees some, and they get no suspicion.

**Cost.** 1: as many steps as plain training.

**Source.** Common practice.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.balance import Balanced
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="balanced",
    summary="draws every given class equally often (a control)",
    source="-",
    year=0,
    text=__doc__ or "",
    build=lambda: Recipe(parts=(Balanced(),)),
)
