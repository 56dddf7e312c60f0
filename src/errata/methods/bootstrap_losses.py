"""Train on a blend of the given label and what the net believes itself.

**Idea.** The target is ``beta y + (1 - beta) s`` (`bootstrap-soft`) or takes the leading class in
place of ``s`` (`bootstrap-hard`). Once the net has learned what classes look like, its belief
stands up to a wrong label.

**Use it** as the plainest way of correcting labels within a loss, and as a baseline.

**Avoid it** against heavy noise: with `beta` near one it changes little, and with a small one the
net confirms its own errors from the start.

**Cost.** 1: another formula, nothing else.

**Source.** Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich 2015, arXiv:1412.6596; `beta` is 0.95
for soft and 0.8 for hard.

**Ours.** The gradient flows through the belief, as in published code: soft bootstrapping is then
cross-entropy with a bonus for certainty. ``--set stage.loss.target=detached`` holds it constant.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe

__all__ = ["HARD", "SOFT"]


def _card(name: str, summary: str) -> Card:
    return Card(
        name=name,
        summary=summary,
        source="Reed et al. 2015, arXiv:1412.6596",
        year=2015,
        way="loss",
        text=__doc__ or "",
        build=lambda: Recipe(loss=name),
    )


SOFT = _card("bootstrap-soft", "blends the label with the net's own distribution")
HARD = _card("bootstrap-hard", "blends the label with the class that leads")
