"""Prototypes as a detector: rows that are more like the prototypes of another class.

Shapes: N rows, C classes, P prototypes of a class, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from errata.detect.base import Scores
from errata.detect.reading import rank_suspicion
from errata.features.density import percentile_of_pairs
from errata.features.prototypes import (
    class_scores,
    correct_labels,
    mean_prototypes,
    select_by_density,
)
from errata.streams import generator

__all__ = ["choose_prototypes", "density_scores", "prototype_scores"]

PROTOTYPES = 8
CANDIDATES = 1280
"""Rows of a class among which its prototypes are chosen, drawn at random: those of SMP."""
_CHUNK = 4096


def choose_prototypes(
    features: Float[Tensor, "N D"],
    given: np.ndarray,
    *,
    classes: int,
    seed: int = 0,
    count: int = PROTOTYPES,
    candidates: int = CANDIDATES,
) -> np.ndarray:
    """Choose the rows that stand for each class: dense, and apart from one another.

    Source: SMP (Han et al. 2019, arXiv:1908.02160), once and on features that are given.

    Args:
        features: Of all rows, best with their mean taken off.
        given: [N] class numbers, -1 for none.
        classes: C.
        seed: Of the draw of candidates.
        count: P.
        candidates: Rows of a class that are looked at, at most.

    Returns:
        Rows [C, P]; -1 fills up where a class has fewer.
    """
    found = np.full((classes, count), -1, dtype=np.int64)
    for label, rows in _drawn(given, classes, seed, candidates):
        chosen = select_by_density(features[torch.from_numpy(rows)], count=count).chosen
        found[label, : len(chosen)] = rows[chosen.numpy()]
    return found


def prototype_scores(
    features: Float[Tensor, "N D"],
    given: np.ndarray,
    *,
    classes: int,
    seed: int = 0,
    prototypes: np.ndarray | None = None,
    names: tuple[str, ...] | None = None,
) -> Scores:
    """Rank rows by how much more they are like the prototypes of another class than of their own.

    Args:
        features: Of all rows. Their mean is taken off, so that the cosine tells directions from
            the middle of the data; without that, features that are never negative are all alike.
        given: [N] class numbers, -1 for none.
        classes: C.
        seed: Of the draw of candidates.
        prototypes: Rows [C, P] of `choose_prototypes`; None chooses them.
        names: Of the classes, for the reasons; numbers otherwise.
    """
    centred = features - features.double().mean(0).to(features)
    if prototypes is None:
        prototypes = choose_prototypes(centred, given, classes=classes, seed=seed)
    means = mean_prototypes(centred, torch.from_numpy(prototypes))
    scores = class_scores(centred, means)
    labels = torch.from_numpy(np.maximum(given, 0))
    corrected, lead = correct_labels(scores, labels)
    own = scores.gather(1, labels[:, None])[:, 0].numpy()
    corrected = torch.where(torch.from_numpy(given >= 0), corrected, scores.argmax(1))
    better = corrected.numpy()
    most = scores.numpy()[np.arange(len(given)), better]
    values = np.where(given >= 0, lead.double().numpy(), np.nan)
    name: Callable[[int], str] = str if names is None else names.__getitem__

    def words(row: int) -> str:
        if better[row] == given[row]:
            return f"most like the prototypes of its own class (cosine {own[row]:.2f})"
        return (
            f"like the prototypes of `{name(int(better[row]))}` (cosine {most[row]:.2f}) more than "
            f"those of its own class ({own[row]:.2f})"
        )

    # A class without prototypes cannot be judged.
    values = np.where(np.isfinite(values), values, np.nan)
    proposed = np.where(better == given, -1, better)
    return Scores(rank_suspicion(values), proposed, words, "prototypes", values)


def density_scores(
    features: Float[Tensor, "N D"],
    given: np.ndarray,
    *,
    classes: int,
    seed: int = 0,
    candidates: int = CANDIDATES,
) -> Scores:
    """Rank rows by how few rows of their own class are like them.

    The density of SMP as a share: of the candidates of its class, those that are more like the row
    than two rows of the class usually are. It cannot tell a rare row from a wrong label and
    proposes nothing.

    Args:
        features: Of all rows; their mean is taken off.
        given: [N] class numbers, -1 for none.
        classes: C.
        seed: Of the draw of candidates.
        candidates: Rows of a class that are compared with, at most.
    """
    units = normalize(features - features.double().mean(0).to(features), dim=1)
    share = np.full(len(given), np.nan)
    for label, chosen in _drawn(given, classes, seed, candidates):
        if len(chosen) < 2:
            continue
        others = units[torch.from_numpy(chosen)]
        cutoff = percentile_of_pairs(others @ others.T)
        rows = np.flatnonzero(given == label)
        for part in np.array_split(rows, -(-len(rows) // _CHUNK)):
            above = (units[torch.from_numpy(part)] @ others.T > cutoff).double().sum(1).numpy()
            # A candidate is like itself, which says nothing.
            itself = np.isin(part, chosen)
            share[part] = (above - itself) / (len(chosen) - itself)

    def words(row: int) -> str:
        return f"like {share[row]:.0%} of the rows of its class, where {usual:.0%} is usual"

    usual = float(np.nanmedian(share)) if not np.isnan(share).all() else float("nan")
    nothing = np.full(len(given), -1, dtype=np.int64)
    return Scores(rank_suspicion(-share), nothing, words, "density", share)


def _drawn(
    given: np.ndarray, classes: int, seed: int, candidates: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Draw the candidates of each class that has rows, in rising order."""
    for label in range(classes):
        rows = np.flatnonzero(given == label)
        if not len(rows):
            continue
        order = torch.randperm(len(rows), generator=generator(seed, "candidates", label))
        yield label, np.sort(rows[order[:candidates].numpy()])
