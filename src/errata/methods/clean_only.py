"""Train on the trusted samples alone, the control for recipes that use them beside noisy rows.

**Idea.** Whoever has trusted samples can leave the others out. A recipe that takes both has to
beat this one, not only plain training on the noisy rows.

**Use it** as that control: ``--recipe clean-only --clean SAMPLES``. The rows of the source give
nothing but the names of the classes and the scale of the pixels.

**Avoid it** for an audit: no row of the source is trained on, so the ledger has no statistics of
them from training.

**Cost.** The number of trusted samples divided by that of the rows: an epoch is one pass over the
trusted ones. Give more epochs where they are few.

**Measured.** Fashion-MNIST, suite `fashion-10k-30`, uniform 40 %, one seed: .808, `erm` .854, for
1,000 trusted samples beside 10,000 noisy ones. Ten times the rows are worth more there than right
labels. At asymmetric 40 % it is the other way round: .808 as well, where `erm` ends at .767.

**Source.** Common practice; a row of the tables of Clothing1M.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.trusted_only import CleanOnly

__all__ = ["CARD"]

_SELECT = ("odd", "odd-phantom", "smp", "smp-kmeans", "smp-density-peak", "bltm")
_RELABEL = ("joint", "joint-hard", "cascade")
_NOISE = (
    *("forward", "backward", "row", "soft", "forward-learned", "dual-t", "vol-min", "t-revision"),
    *("sukhbaatar", "jindal", "goldberger-s", "goldberger-c", "nnaqc", "nnaqc-instance"),
)

CARD = Card(
    name="clean-only",
    summary="trains on the trusted samples alone (a control)",
    source="-",
    year=0,
    way="trusted",
    needs=("clean",),
    text=__doc__ or "",
    refuses={
        "finetune": "it trains on nothing but trusted samples before it tunes on them",
        **dict.fromkeys(
            (*_SELECT, *_RELABEL, "cleannet"),
            "one of them judges the labels of the source, and the other trains on none of its rows",
        ),
        **dict.fromkeys(
            _NOISE,
            "one of them models the noise of the source, and the other trains on none of its rows",
        ),
    },
    build=lambda: Recipe(parts=(CleanOnly(),)),
)
