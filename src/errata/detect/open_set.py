"""Rows that show no class at all: no label is right for them, so none is proposed.

Wrong labels are told from right ones by what a net predicts for the row; that says little of a
picture of nothing, because a net may learn it by heart. Its neighbours in feature space say more:
they are far away, or they are of every class.

Shapes: N rows, C classes, D features.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from errata.detect.base import Scores
from errata.detect.reading import rank_suspicion
from errata.errors import SettingsError, SourceError
from errata.features.neighbours import nearest

__all__ = ["NO_CLASS", "open_scores", "open_set_score"]

K = 10
NO_CLASS = 0.75
"""Scores above it count as no class. In `benchmarks/open_set.py` 82 to 95 % of the pictures of
nothing are above it, 2 to 3 % of the right labels and about 20 % of the wrong ones."""


def open_set_score(features: Float[Tensor, "N D"], probs: np.ndarray, *, k: int = K) -> np.ndarray:
    """Score rows [N] by how little their neighbours agree, times how far away these are.

    The first factor is the entropy of the mean prediction of the `k` nearest rows by cosine, 0 for
    one class to 1 for all classes alike; a row's own prediction, which training bends to its label,
    does not count. The second is one minus the cosine of the k-th, over its median of all rows. So
    the score is about .3 for a usual row, and above 1 for most pictures of nothing. Ours.

    Args:
        features: Of the rows, from any network.
        probs: [N, C] averaged predictions, rows summing to one; a row of NaN is no neighbour.
        k: Neighbours, 1 or more.

    Returns:
        [N] 0 and above; NaN where fewer than `k` rows may be neighbours.

    Raises:
        SettingsError: `k` is not allowed, or a feature is not finite.
        SourceError: Features and predictions differ in length, or there are fewer than 2 classes.
    """
    if k < 1:
        raise SettingsError(f"k `{k}` is not allowed; allowed: 1 or more")
    if len(features) != len(probs):
        raise SourceError(
            f"there are features of `{len(features):,}` rows and predictions of "
            f"`{len(probs):,}`; allowed: both of the same rows",
            hint="make the features from the same source, in the same order",
        )
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise SourceError(f"predictions have the shape `{probs.shape}`; allowed: [N, C] with C > 1")
    known = np.flatnonzero(~np.isnan(probs).any(1))
    if len(known) <= k:
        return np.full(len(probs), np.nan)
    near = nearest(features, k=k, among=torch.from_numpy(known))
    mean = probs[near.rows.cpu().numpy()].astype(np.float64).mean(1)
    entropy = -(mean * np.log(np.maximum(mean, 1e-12))).sum(1) / np.log(probs.shape[1])
    distance = 1 - near.similarity[:, -1].cpu().numpy()
    # Where most rows are copies of others, any distance is large, and agreement alone counts.
    usual = float(np.median(distance))
    return np.asarray(np.maximum(entropy, 0) * (distance / usual if usual > 1e-9 else 1.0))


def open_scores(
    features: Float[Tensor, "N D"], probs: np.ndarray, given: np.ndarray, *, k: int = K
) -> Scores:
    """Say of every labelled row how likely it shows no class, with a reason and no proposal.

    Arguments and errors are those of `open_set_score`; `given` [N] are class numbers, -1 for rows
    without a label, which have no score.
    """
    values = np.where(given >= 0, open_set_score(features, probs, k=k), np.nan)

    def words(row: int) -> str:
        return (
            "shows perhaps no class at all: the samples that look most like it are far away or of "
            "many classes"
        )

    none = np.full(len(values), -1, dtype=np.int64)
    return Scores(rank_suspicion(values), none, words, "open", values)
