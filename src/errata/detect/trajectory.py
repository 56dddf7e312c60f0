"""What training predicted of a row, as numbers that can be compared between rows and classes.

Shapes: N rows, E epochs, C classes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from errata.detect.cartography import data_map, label_probs
from errata.detect.curves import align_curves
from errata.detect.reading import (
    averaged_probs,
    column,
    forgetting_events,
    given_labels,
    mean_per_view,
    normal_scores,
    rank_suspicion,
    rival_probs,
    rows_by_group,
)
from errata.ledger import Ledger

__all__ = [
    "ENSEMBLE_READS",
    "READS",
    "Features",
    "ensemble_features",
    "join_features",
    "modal_share",
    "normalise",
    "normalise_within",
    "prediction_entropy",
    "trajectory_features",
]

READS: tuple[str, ...] = (
    *("margin_sum", "loss_sum", "disagree_sum", "times_seen", "forgets", "first_learned"),
    *("prob_sum", "loss_curve"),
)
"""Columns that the features need; all are written by `Track`."""

ENSEMBLE_READS: tuple[str, ...] = ("prob_oof", "uncertainty", "aleatoric", "epistemic")
"""Columns that the features of an ensemble need; `errata.engine.bootstrap` writes them."""

_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Features:
    """Measures of rows.

    Attributes:
        names: [F] what each one is.
        values: [N, F] float64 in their own units; NaN where a row has no label or was never seen.
    """

    names: tuple[str, ...]
    values: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """Give one feature [N]."""
        return np.asarray(self.values[:, self.names.index(name)])

    def only(self, *names: str) -> Features:
        """Leave out all but some features."""
        return Features(names, np.stack([self.of(name) for name in names], axis=1))


def trajectory_features(ledger: Ledger) -> Features:
    """Give the features that training leaves behind, higher = more suspicious for the first eight.

    1. ``margin``: minus the accumulated margin (AUM) [logits];
    2. ``probability``: minus the mean probability of the given label;
    3. ``loss``: its mean loss [nats];
    4. ``wrong_events``: share of epochs in which another class was predicted;
    5. ``forgetting``: times that the given label was forgotten, a row never learned above all;
    6. ``first_learned``: epoch in which it was first predicted, never after all others;
    7. ``average_margin``: highest other probability less that of the given label, in the averaged
       prediction;
    8. ``modal``: share of epochs up to which another class was predicted more often than the given
       one; only with the curves of `Trajectory`;
    9. ``spread``: population standard deviation of the probability of the given label;
    10. ``entropy``: of the averaged prediction [nats].

    Raises:
        LedgerError: A column of `READS` is missing.
    """
    given = given_labels(ledger)
    times = column(ledger, "times_seen")
    seen = (times > 0) & (given >= 0)
    averaged = averaged_probs(ledger)
    assert averaged is not None
    probs = averaged.astype(np.float64)
    own, rival = rival_probs(probs, given)
    first = column(ledger, "first_learned").astype(np.float64)
    found = data_map(*label_probs(ledger))
    values = {
        "margin": -mean_per_view(column(ledger, "margin_sum"), times),
        "probability": -found.confidence,
        "loss": mean_per_view(column(ledger, "loss_sum"), times),
        "wrong_events": mean_per_view(column(ledger, "disagree_sum"), times),
        "forgetting": forgetting_events(column(ledger, "forgets"), first),
        "first_learned": np.where(first < 0, first.max(initial=0) + 1, first),
        "average_margin": rival - own,
    }
    if ledger.has("argmax_curve"):
        filled = ledger.filled("argmax_curve").cpu().numpy()
        argmax = align_curves(column(ledger, "argmax_curve"), filled)
        values["modal"] = modal_share(argmax, filled, given, classes=len(ledger.classes))
    values["spread"] = found.variability
    values["entropy"] = prediction_entropy(probs)
    stack = np.stack(list(values.values()), axis=1).astype(np.float64)
    return Features(tuple(values), np.where(seen[:, None], stack, np.nan))


def ensemble_features(ledger: Ledger) -> Features:
    """Give what nets that never saw a row say of it; see `errata.engine.bootstrap`.

    ``held_out_margin``: log of the best other probability less log of the given one's;
    ``uncertainty``, ``aleatoric`` and ``epistemic`` [nats]. NaN where no net held the row out.

    Raises:
        LedgerError: The ledger has none of it.
    """
    given = given_labels(ledger)
    own, rival = rival_probs(column(ledger, "prob_oof"), given)
    names = ENSEMBLE_READS[1:]
    values = [np.log(rival + 1e-3) - np.log(own + 1e-3)]
    values += [column(ledger, name).astype(np.float64) for name in names]
    stack = np.where((given >= 0)[:, None], np.stack(values, axis=1), np.nan)
    return Features(("held_out_margin", *names), stack)


def join_features(*parts: Features) -> Features:
    """Put features of the same rows side by side."""
    names = tuple(name for part in parts for name in part.names)
    return Features(names, np.concatenate([part.values for part in parts], axis=1))


def modal_share(
    argmax: np.ndarray, filled: np.ndarray, given: np.ndarray, *, classes: int
) -> np.ndarray:
    """Give the share of epochs [N] up to which another class led the given one in predictions.

    At each epoch the predictions so far are counted; another class leads where it was predicted
    strictly more often. So a row that was mistaken early counts until it has caught up. The
    specification names the modal prediction only; that it is the one so far is our reading.

    Args:
        argmax: [N, E] predicted classes, oldest epoch first.
        filled: [N] epochs that count for each row.
        given: [N] class numbers; rows of -1 give NaN.
        classes: C.

    Example:
        >>> argmax = np.array([[1, 0, 0, 0], [1, 1, 0, 2]])
        >>> modal_share(argmax, np.array([4, 4]), np.array([0, 0]), classes=3).tolist()
        [0.25, 1.0]
    """
    rows, epochs = argmax.shape
    share = np.full(rows, np.nan)
    known = np.flatnonzero((filled > 0) & (given >= 0))
    for block in np.split(known, np.arange(0, len(known), max(1, _BLOCK // classes))[1:]):
        at, label = np.arange(len(block)), given[block]
        counts = np.zeros((len(block), classes), dtype=np.int32)
        led, others = np.zeros(len(block)), np.zeros(len(block), dtype=np.int32)
        for epoch in range(epochs):
            valid = epoch < filled[block]
            seen = np.where(valid, argmax[block, epoch], 0).astype(np.int64)
            counts[at, seen] += valid
            others = np.where(valid & (seen != label), np.maximum(others, counts[at, seen]), others)
            led += valid & (others > counts[at, label])
        share[block] = led / filled[block]
    return share


def prediction_entropy(probs: np.ndarray) -> np.ndarray:
    """Give the entropy [nats] of predictions [N, C]; NaN stays NaN."""
    return np.asarray(-(probs * np.log(np.maximum(probs, 1e-12))).sum(1))


def normalise(values: np.ndarray) -> np.ndarray:
    """Turn each feature [N, F] into normal scores of its ranks over all rows; NaN becomes 0.

    A rank has no unit and no outliers, so any feature can stand beside any other. Unknown values
    become the middle, so that they say nothing.
    """
    scores = [normal_scores(rank_suspicion(feature)) for feature in values.T]
    return np.asarray(np.nan_to_num(np.stack(scores, axis=1)))


def normalise_within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Do the same within each given class: how unusual a row is for its label.

    Args:
        values: [N, F].
        group: [N] class numbers; rows of -1 become 0.

    Example:
        >>> values = np.array([[1.0], [2.0], [30.0], [10.0]])
        >>> normalise_within(values, np.array([0, 0, 1, 1])).round(3)[:, 0].tolist()
        [-0.674, 0.674, 0.674, -0.674]
    """
    found = np.zeros(values.shape)
    for rows in rows_by_group(group):
        found[rows] = normalise(values[rows])
    return found
