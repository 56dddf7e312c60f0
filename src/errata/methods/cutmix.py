"""Paste a rectangle of one picture into another, and blend their labels by its area.

**Idea.** In a share `probability` of the batches every picture gets a rectangle from a partner in
its place, and the target is blended by the share of pixels. Each part of the picture stays
natural, unlike in a blend of mixup, and the net has to look at all of it.

**Use it** as a control beside `mixup`, on photographs.

**Avoid it** where a small part of the picture decides: the rectangle may hide it or bring another
one, and the target then says the wrong thing. It needs pictures; rows of numbers are refused.

**Cost.** About 1. The statistics of single samples need one extra forward pass for mixed batches
in every fifth epoch.

**Source.** Yun, Han, Oh, Chun, Choe, Yoo 2019, "CutMix", arXiv:1905.04899.

**Ours.** ``alpha = 1`` and ``probability = 0.5`` are those of the authors for CIFAR as we remember
them; for ImageNet they mix every batch. The rectangle is cut off at the edges and the target takes
the area that is left of it, as there.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.mixing import CutMix

__all__ = ["CARD"]

CARD = Card(
    name="cutmix",
    summary="pastes a rectangle of one picture into another and blends their labels",
    source="Yun et al. 2019, arXiv:1905.04899",
    year=2019,
    way="brake",
    text=__doc__ or "",
    refuses={"mixup": "both mix the rows of a batch, and one of them is enough"},
    build=lambda: Recipe(parts=(CutMix(),)),
)
