"""Train on blends of two samples and of their labels.

**Idea.** Each step trains on ``x = l * x_i + (1 - l) * x_j`` with the target blended alike, with
``l`` drawn from Beta(alpha, alpha). Blends are never seen twice, so they are hard to learn by
heart.

**Use it** as a regulariser that costs nothing, alone or with others (``odd+mixup``).

**Avoid it** where calibrated confidence on plain inputs matters and you cannot recalibrate: it
makes networks underconfident.

**Cost.** About 1. The statistics of single samples need one extra forward pass in every fifth
epoch, because the logits of a blend say nothing about one row.

**Source.** Zhang, Cisse, Dauphin, Lopez-Paz 2018, arXiv:1710.09412.

**Ours.** `alpha = 1`; the paper used larger values on noisy labels. One blend per batch as in the
published code; `per_row` draws one for each row.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.mixing import Mixup

__all__ = ["CARD"]

CARD = Card(
    name="mixup",
    summary="trains on blends of two samples and of their labels",
    source="Zhang et al. 2018, arXiv:1710.09412",
    year=2018,
    way="brake",
    text=__doc__ or "",
    build=lambda: Recipe(parts=(Mixup(),)),
)
