"""After all else, train on the trusted samples, at a small and constant rate.

**Idea.** Many noisy rows teach features, and a few trusted ones then put the decisions right.

**Use it** behind any recipe, with ``--clean``: ``odd+finetune`` and ``smp+finetune`` are the
setting "noisy + clean" of their papers. Alone it follows plain training.

**Avoid it** with very few trusted samples, or with ones from another source: the net drifts
towards them. Compare with `clean-only`. On Fashion-MNIST (suite `fashion-10k-30`, uniform 40 %, one
seed) 1,000 trusted samples bring `erm` from .854 down to .835: 24 steps at .01 shake a net whose
rate had fallen to nought by more than they teach it. In one try a rate of .001 that falls to nought
lost nothing and gained nothing; set it with ``stage.1.optimizer.lr`` and ``.schedule``.

**Cost.** That of the recipe before it, and a tenth of its epochs on top, each one pass over the
trusted samples.

**Source.** Common practice; on Clothing1M since Patrini et al. 2017, arXiv:1609.03683.

**Ours.** A tenth of the epochs at the rate 0.01, constant, with the loss cross-entropy. The papers
tune for Clothing1M only, and ODD and SMP do not say how. It takes no part of the recipes before
it: no mixing, no dropping.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import OptimizerSpec, Phase, Recipe
from errata.parts.trusted_only import CleanOnly

__all__ = ["CARD"]

TUNING = OptimizerSpec(lr=0.01, schedule="constant")


def _phases() -> tuple[Phase, ...]:
    tuned = Recipe(parts=(CleanOnly(),))
    return (Phase(recipe=tuned, share=0.1, optimizer=TUNING, reset=False, after=True),)


CARD = Card(
    name="finetune",
    summary="trains on the trusted samples at the end, at a small rate",
    source="-",
    year=0,
    way="trusted",
    needs=("clean",),
    text=__doc__ or "",
    build=_phases,
)
