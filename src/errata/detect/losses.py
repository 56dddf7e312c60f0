"""Losses of single epochs, and losses of a cyclical learning rate.

Shapes: N rows, E epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.beta_mixture import high_loss_posterior
from errata.detect.curves import align_curves
from errata.detect.reading import column, labelled, proposed_classes, rank_suspicion
from errata.errors import SettingsError
from errata.ledger import Ledger

__all__ = ["Arazo", "centred_loss_sum"]


def centred_loss_sum(curves: np.ndarray) -> np.ndarray:
    """Sum each row's losses after taking off the mean of each epoch.

    The mean differs between epochs, so without this a row that was looked at in other epochs than
    the rest would have another scale.

    Args:
        curves: [N, E] losses, oldest epoch first; NaN where a row was not seen.

    Returns:
        [N]; NaN where a row was never seen.

    Example:
        >>> centred_loss_sum(np.array([[3.0, 1.0], [1.0, 0.0], [2.0, np.nan]])).tolist()
        [1.5, -1.5, 0.0]
    """
    known = ~np.isnan(curves)
    losses = np.where(known, curves, 0)
    mean = losses.sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, losses - mean, 0).sum(1)
    return np.where(known.any(1), centred, np.nan)


def _known_losses(ledger: Ledger) -> np.ndarray:
    """Read losses [N, E], oldest first; NaN after a row has left training."""
    filled = ledger.filled("loss_curve").cpu().numpy()
    curves = align_curves(column(ledger, "loss_curve"), filled)
    return np.where(np.arange(curves.shape[1]) < filled[:, None], curves, np.nan)


@register_detector("o2u")
@final
class O2U(Detector):
    """Losses less the mean of their epoch, summed: high is suspicious.

    Source: O2U-Net (Huang et al. 2019). What it adds is the cyclical learning rate, after a
    training at a constant one: ``stage.optimizer.schedule=cyclical``, ``stage.optimizer.lr=0.01``.
    Where all rows were seen in all epochs, this orders rows exactly as ``accumulated_loss`` does
    under any schedule: what is taken off is the same for all. How many rows to call wrong is the
    known noise rate there, which nobody has; here it is estimated as for any detector.
    """

    reads = ("loss_curve",)

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by their centred losses."""
        self.check(ledger)
        total = labelled(ledger, centred_loss_sum(_known_losses(ledger))).round(9)
        return Scores(
            rank_suspicion(total),
            proposed_classes(ledger),
            lambda row: (
                f"losses {abs(total[row]):.1f} {'above' if total[row] >= 0 else 'below'} the mean, "
                "summed over epochs"
            ),
            "centred",
            total,
        )


@register_detector("arazo")
@final
@dataclass
class Arazo(Detector):
    """Probability that the loss of one epoch belongs to the higher of two beta distributions.

    Source: Arazo et al. 2019 (arXiv:1904.11238), 10 rounds. Which epoch matters: they begin to use
    it at 106 of 300, and so does the default. Later epochs may have memorised wrong labels (the
    AUROC falls from .95 to .63 in the tables of IDO's reviewers), earlier ones have learned too
    little; where little is memorised, later ones are better. One epoch says less than all of them;
    ``small_loss_mixture`` averages. Losses here are those of training; theirs are computed anew in
    evaluation mode.

    Attributes:
        at: Share of training after which the loss is taken, 0 to 1.
    """

    at: float = 106 / 300

    reads = ("loss_curve",)

    def __post_init__(self) -> None:
        if not 0 <= self.at <= 1:
            raise SettingsError(
                f"arazo at `{self.at}` is out of range; allowed: 0 to 1, a share of training",
                hint="leave `at` out for the default",
            )

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by the mixture of one epoch's losses, equal ones by the loss itself."""
        self.check(ledger)
        filled = ledger.filled("loss_curve").cpu().numpy()
        curves = align_curves(column(ledger, "loss_curve"), filled)
        epochs = curves.shape[1]
        epoch = min(int(self.at * epochs), epochs - 1)
        values = curves[:, epoch] if epochs else np.full(len(filled), np.nan)
        loss = labelled(ledger, values)
        posterior = high_loss_posterior(loss, rounds=10)
        return Scores(
            rank_suspicion(posterior.round(9) + 1e-10 * loss / (1 + loss)),
            proposed_classes(ledger),
            lambda row: (
                f"loss {loss[row]:.2f} in epoch {epoch}, of the higher group with probability "
                f"{posterior[row]:.2f}"
            ),
            "mixture",
            posterior,
        )
