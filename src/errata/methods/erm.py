"""Plain training on the labels as given, the control that every recipe is compared with.

**Idea.** Empirical risk minimisation: the mean cross-entropy of the given labels. A network with
enough weights first learns what is common, then learns the wrong labels by heart.

**Use it** as the baseline, and where labels are known to be right. With few epochs on much data
it hardly memorises, and then it is hard to beat.

**Avoid it** for long training on labels that may be wrong.

**Cost.** 1 by definition.

**Source.** Common practice; memorisation: Zhang et al. 2017, arXiv:1611.03530.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["CARD"]

CARD = Card(
    name="erm",
    summary="plain training on the labels as given (the control)",
    source="-",
    year=0,
    text=__doc__ or "",
    build=Recipe,
)
