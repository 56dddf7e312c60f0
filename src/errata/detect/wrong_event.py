"""Wrong events: the epochs in which training predicted another class than the given one.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.beta_mixture import fit_beta_groups
from errata.detect.reading import column, given_labels, proposed_classes, rank_suspicion
from errata.ledger import Ledger

__all__ = ["event_share", "wrong_event_posterior"]


def event_share(events: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Turn counts [N] into shares strictly between 0 and 1, as a beta distribution needs them.

    Half an event is added to either side, so a row seen ten times without an event has less than
    one seen once; NaN where a row was never seen.

    Example:
        >>> event_share(np.array([0, 3, 0]), np.array([4, 4, 0])).tolist()
        [0.1, 0.7, nan]
    """
    share = (events + 0.5) / (views + 1.0)
    return np.where(views > 0, share, np.nan)


def wrong_event_posterior(
    events: np.ndarray,
    views: np.ndarray,
    given: np.ndarray,
    *,
    per_class: bool = True,
    rounds: int = 10,
) -> np.ndarray:
    """Give the probability [N] that a row is of the group of its class with many wrong events.

    Accumulated counts keep what single losses lose when training memorises. Source: the statistic,
    the beta mixture and one mixture for each class are those of IDO, of which only the repository
    and the tables of its reviewers were at hand; there, classes of their own beat one mixture for
    all by 1 to 3 points. It counts a weakly and a strongly augmented view of each epoch, this only
    the one that training sees. The prior that the classes share is ours.

    Args:
        events: [N] epochs in which another class was predicted.
        views: [N] epochs that a row was seen.
        given: [N] class numbers; -1 is unlabelled.
        per_class: Whether each class has a mixture of its own.
        rounds: Steps of the fit.

    Returns:
        [N] 0 to 1; NaN where a row has no label or was never seen.
    """
    share = event_share(events, views)
    known = (given >= 0) & ~np.isnan(share)
    found = np.full(len(given), np.nan)
    if known.any():
        group = given[known] if per_class else np.zeros(int(known.sum()), dtype=np.int64)
        fit = fit_beta_groups(share[known], group, rounds=rounds)
        found[known] = fit.posterior(share[known], group)
    return found


@register_detector("wrong_event")
@final
class WrongEvent(Detector):
    """Probability that a row is of the group of its class that is often predicted otherwise.

    The counts are those of ``disagreement``; the mixture of each class says what is often there.
    Among rows of equal probability the larger share is the more suspicious.
    """

    reads = ("disagree_sum", "times_seen")

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by the mixture of their class."""
        self.check(ledger)
        events, views = column(ledger, "disagree_sum"), column(ledger, "times_seen")
        posterior = wrong_event_posterior(events, views, given_labels(ledger))
        # Far less than the smallest step that matters, it only settles what would be ties.
        order = posterior.round(9) + 1e-10 * event_share(events, views)
        return Scores(
            rank_suspicion(order),
            proposed_classes(ledger),
            lambda row: (
                f"predicted otherwise in {int(events[row])} of {int(views[row])} epochs, often for "
                f"its class with probability {posterior[row]:.2f}"
            ),
            "events",
            posterior,
        )
