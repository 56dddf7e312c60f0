"""Prototypes: rows that stand for their class, and how alike other rows are to them.

Pure functions on features, after SMP (Han et al. 2019, arXiv:1908.02160).

Shapes: n candidates of one class, N all rows, C classes, P prototypes of a class, D feature width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from errata.features.clusters import k_means, nearest_rows
from errata.features.density import (
    cosine_density,
    cosines,
    densest,
    densest_apart,
    density_peaks,
    distances,
    highest_peaks,
    likeness_to_denser,
    percentile_of_pairs,
)

__all__ = [
    "Selection",
    "best_scores",
    "class_scores",
    "correct_labels",
    "mean_prototypes",
    "select_by_density",
    "select_by_k_means",
    "select_densest",
    "select_density_peaks",
]

_CHUNK = 8192


@dataclass(frozen=True)
class Selection:
    """Prototypes of one class among its candidates.

    Attributes:
        chosen: [k] places among the candidates, the best first.
        density: [n] of every candidate; None where the selection has none.
        apart: [n] the other axis of the choice: eta, the likeness to a denser candidate, or for
            density peaks the distance to it.
    """

    chosen: Tensor
    density: Tensor | None = None
    apart: Tensor | None = None


def select_by_density(
    features: Float[Tensor, "n D"],
    *,
    count: int,
    percentile: float = 40.0,
    cap: float = 0.95,
    ties: str = "index",
) -> Selection:
    """Choose the densest candidates that are no near-duplicates of one another.

    Args:
        features: Of the candidates; only their directions matter.
        count: Prototypes; all candidates where there are fewer.
        percentile: 0 to 100, of the cosines: the cut-off of the density.
        cap: Candidates with an eta of this or more come last.
        ties: As in `likeness_to_denser`.
    """
    similarity = cosines(features)
    rho = cosine_density(similarity, percentile_of_pairs(similarity, percentile=percentile))
    eta = likeness_to_denser(similarity, rho, ties=ties)
    return Selection(densest_apart(rho, eta, count=count, cap=cap), rho, eta)


def select_densest(
    features: Float[Tensor, "n D"], *, count: int, percentile: float = 40.0, ties: str = "index"
) -> Selection:
    """Choose the densest candidates, near-duplicates or not: the control of the rule above."""
    found = select_by_density(features, count=count, percentile=percentile, ties=ties)
    assert found.density is not None, "a selection by density gives it"
    return replace(found, chosen=densest(found.density, count=count))


def select_by_k_means(
    features: Float[Tensor, "n D"], *, count: int, generator: torch.Generator
) -> Selection:
    """Choose the candidates nearest to the centres of k-means, started by k-means++."""
    return Selection(nearest_rows(features, k_means(features, count=count, generator=generator)))


def select_density_peaks(features: Float[Tensor, "n D"], *, count: int) -> Selection:
    """Choose the candidates with the largest product of density and distance to a denser one."""
    rho, delta = density_peaks(distances(features))
    return Selection(highest_peaks(rho, delta, count=count), rho, delta)


def mean_prototypes(
    features: Float[Tensor, "N D"], rows: Int[Tensor, "C P"]
) -> Float[Tensor, "C D"]:
    """Give the mean of the unit vectors of each class's prototypes.

    Args:
        features: Of all rows.
        rows: Prototypes of each class; -1 fills up where a class has fewer.

    Returns:
        [C, D]; NaN for a class without prototypes.
    """
    real = (rows >= 0).to(features)
    unit = normalize(features[rows.clamp_min(0)], dim=2) * real[:, :, None]
    return unit.sum(1) / real.sum(1, keepdim=True)


def class_scores(
    features: Float[Tensor, "N D"], means: Float[Tensor, "C D"]
) -> Float[Tensor, "N C"]:
    """Give the mean cosine of each row to the prototypes of each class (sigma of SMP).

    The mean over the prototypes is one product with their mean, so it costs the same for any
    number of them.

    Args:
        features: Of any length; a row of zeros scores 0.
        means: From `mean_prototypes`.

    Returns:
        [N, C], -1 to 1; minus infinity for a class without prototypes.
    """
    # Lengths do not change which class is nearest, so only the small matrix is divided by them;
    # a class without prototypes enters by the offset. This way round the product is faster.
    offset = torch.where(means.isnan().any(1), -math.inf, 0.0).to(means)
    scores = torch.addmm(offset[:, None], means.nan_to_num(), features.T)
    scores /= features.norm(dim=1).clamp_min(1e-12)
    return scores.T


def best_scores(features: Float[Tensor, "N D"], rows: Int[Tensor, "C P"]) -> Float[Tensor, "N C"]:
    """Give the largest cosine of each row to a prototype of each class.

    A variant of `class_scores` that is not the same: one prototype decides, and it costs P times
    as much.

    Args:
        features: Of all rows.
        rows: As for `mean_prototypes`.
    """
    absent = rows < 0
    unit = normalize(features[rows.clamp_min(0)], dim=2).flatten(0, 1)
    best = []
    for chunk in torch.split(features, _CHUNK):
        cosine = (chunk @ unit.T) / chunk.norm(dim=1, keepdim=True).clamp_min(1e-12)
        by_class = cosine.unflatten(1, tuple(rows.shape))
        best.append(by_class.masked_fill(absent, -math.inf).amax(2))
    return torch.cat(best)


def correct_labels(
    scores: Float[Tensor, "N C"], given: Int[Tensor, " N"], *, margin: float = 0.0
) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """Give each row the class with the highest score, where it leads the given one enough.

    Args:
        scores: From `class_scores` or `best_scores`.
        given: Class of each row, 0 and above.
        margin: Rows whose best class leads the given one by less keep their label; 0 is the
            paper's.

    Returns:
        The corrected labels, and the lead of the best other class over the given one: above 0
        where the paper would change the label, higher where that is more certain.

    Example:
        >>> scores = torch.tensor([[0.9, 0.5], [0.75, 0.5]])
        >>> correct_labels(scores, torch.tensor([1, 0]))
        (tensor([0, 0]), tensor([ 0.4000, -0.2500]))
    """
    own = scores.gather(1, given[:, None])
    others = scores.scatter(1, given[:, None], -math.inf)
    best, proposed = others.max(1)
    lead = best - own[:, 0]
    changes = lead >= margin if margin > 0 else lead > 0
    return torch.where(changes, proposed, given), lead
