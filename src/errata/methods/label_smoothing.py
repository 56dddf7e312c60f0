"""Give a tenth of every label to all classes alike.

**Idea.** A net that may never be quite sure of a label has no reason to make its scores ever
larger, and learns single exceptions later.

**Use it** as a control: it costs nothing, and helps a little nearly everywhere.

**Avoid it** where confidences are read: a smoothed net is never sure. It does not stop a net from
learning wrong labels by heart.

**Cost.** 1: another formula, nothing else.

**Source.** Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv:1512.00567.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="label-smoothing",
    summary="cross-entropy to labels that give a tenth to all classes alike",
    source="Szegedy et al. 2016, arXiv:1512.00567",
    year=2016,
    way="brake",
    text=__doc__ or "",
    build=lambda: Recipe(loss="label-smoothing"),
)
