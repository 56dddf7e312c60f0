"""An active loss that is normalised to be robust, and a passive one that helps it to learn.

**Idea.** Dividing a loss by its sum over all labels makes it symmetric, and so robust to uniform
noise, but then it underfits. An *active* loss raises the probability of the label, a *passive* one
lowers those of the others; together they are robust and fit. `nce-rce` adds reverse cross-entropy
to normalised cross-entropy, `nce-mae` adds mean absolute error; `ngce` is normalised generalised
cross-entropy alone.

**Use it** as a robust loss where `gce` is not robust enough. ``odd+nce-rce`` works.

**Avoid it** without setting `alpha` and `beta` for many classes: the authors take 1 and 1 for
CIFAR-10; 10 and 0.1 (`nce-rce`) or 10 and 1 (`nce-mae`) for CIFAR-100. `ngce` alone underfits.

**Cost.** 1: another formula, nothing else.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, one seed. Uniform 40 %: `nce-rce` .864, `ngce`
.774 (`erm` .854). The gradient of `ngce` is small everywhere, as its sum over ten labels is 1, and
thirty epochs are too few. Asymmetric 40 %, where eight of the ten classes give 40 % of their labels
to a look-alike: `nce-rce` .641, `ngce` .533 (`erm` .767), and `nce-mae` loses there as well; the
card of `gce` has the reason.

**Source.** Ma, Huang, Wang, Romano, Erfani, Bailey 2020, arXiv:2006.13554. The absolute
error in `nce-mae` is ``1 - p``, as in their code, half of what the recipe `mae` takes.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["MAE", "NGCE", "RCE"]


def _card(name: str, summary: str) -> Card:
    return Card(
        name=name,
        summary=summary,
        source="Ma et al. 2020, arXiv:2006.13554",
        year=2020,
        way="loss",
        text=__doc__ or "",
        build=lambda: Recipe(loss=name),
    )


RCE = _card("nce-rce", "normalised cross-entropy and reverse cross-entropy")
MAE = _card("nce-mae", "normalised cross-entropy and mean absolute error")
NGCE = _card("ngce", "normalised generalised cross-entropy: symmetric, and underfits")
