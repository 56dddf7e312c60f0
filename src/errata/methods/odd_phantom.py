"""ODD with a null that is measured rather than simulated.

**Idea.** Every row gets a second, random label that is never trained on. What that label costs
shows what a wrong label costs in this very net, at this epoch. As `odd` does, `odd-phantom` drops
once, at `at`, every row whose mean loss over its last `recent` epochs lies above a percentile of
that null.

**Use it** where `odd` cannot be used: networks without a linear head, or whose features are not
rectified. The percentile keeps its meaning whatever the number of classes.

**Avoid it** where wrong labels are systematic: their loss is far below that of random ones. It
drops less than `odd` at the same percentile, and almost nothing once labels are learned by heart.

**Cost.** That of `odd`: one more loss per row in `recent` epochs, and no simulation.

**Source.** Ours, after the slides of ODD (Song et al. 2020).

**Ours.** All of it. Floors and defaults are those of `odd`.
"""

# Shapes: n rows in training.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from errata.ledger import Column
from errata.methods.card import Card
from errata.parts.base import Recipe, register_part
from errata.parts.dropping import DropAboveNull
from errata.phantoms import draw_phantoms
from errata.types import Run

__all__ = ["CARD", "ODDPhantom"]


@register_part("odd-phantom")
@dataclass(kw_only=True)
class ODDPhantom(DropAboveNull):
    """Drop rows whose recent mean loss lies above a percentile of that of never-trained labels."""

    def setup(self, run: Run) -> None:
        """Add the columns, and draw a second label for every row."""
        super().setup(run)
        run.ledger.add(
            "odd-phantom",
            Column("odd_phantom_null", rule="ring", keep=self.recent),
            Column("odd_phantom_label", dtype=torch.int64),
        )
        self._blank(run, "odd_phantom_null")
        labels = draw_phantoms(run.given, run.classes, run.stream("odd-phantom"))
        everyone = torch.arange(run.num_rows, device=run.device)
        run.ledger.write("odd_phantom_label", everyone, labels, stamp=run.tick)

    def record_null(self, run: Run, rows: Tensor, log_probs: Tensor) -> None:
        """Keep the losses of the second labels."""
        labels = run.ledger.read("odd_phantom_label", rows)
        loss = -log_probs.gather(1, labels[:, None])[:, 0]
        run.ledger.write("odd_phantom_null", rows, loss, stamp=run.tick)

    def null_losses(self, run: Run) -> Tensor:
        """Average the losses of the second labels as those of the given ones are."""
        losses = run.ledger.read("odd_phantom_null").nanmean(1)
        return losses[~losses.isnan()]


CARD = Card(
    name="odd-phantom",
    summary="ODD with the losses of never-trained random labels in place of a simulation",
    source="ours, after Song et al. 2020",
    year=2026,
    way="drop",
    text=__doc__ or "",
    refuses={"odd": "both drop rows by what a wrong label costs, and one of them is enough"},
    build=lambda: Recipe(parts=(ODDPhantom(),)),
)
