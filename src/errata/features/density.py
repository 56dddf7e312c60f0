"""Rows that lie in the dense parts of their class, and apart from one another.

Pure functions on features. Those of SMP (Han et al. 2019, arXiv:1908.02160) work on cosines,
density peaks (Rodriguez and Laio 2014) on Euclidean distances.

Shapes: n rows of one class, k chosen ones, D feature width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from errata.errors import SettingsError, unknown_name

__all__ = [
    "TIES",
    "cosine_density",
    "cosines",
    "densest",
    "densest_apart",
    "density_peaks",
    "distances",
    "highest_peaks",
    "likeness_to_denser",
    "percentile_of_pairs",
]

TIES = ("index", "strict")
"""Which rows count as denser where densities are equal: the earlier one, or none."""


def cosines(features: Float[Tensor, "n D"]) -> Float[Tensor, "n n"]:
    """Give the cosine of every pair of rows; that with a row of zeros is 0."""
    unit = normalize(features, dim=1)
    return unit @ unit.T


def percentile_of_pairs(similarity: Float[Tensor, "n n"], *, percentile: float = 40.0) -> float:
    """Give a percentile of the entries off the diagonal, interpolated linearly.

    Of cosines this is S_c of SMP, "ranked 40 %". Whether the paper counts from below, as here,
    or from above (``percentile = 60``) is not certain; both readings are in use.

    Args:
        similarity: Symmetric.
        percentile: 0 (the smallest) to 100.

    Returns:
        The percentile; 0 where there is but one row.
    """
    if not 0 <= percentile <= 100:
        raise SettingsError(
            f"percentile `{percentile}` is out of range; allowed: 0 to 100",
            hint="40 is the paper's",
        )
    n = len(similarity)
    row, column = torch.triu_indices(n, n, 1, device=similarity.device)
    pairs = similarity[row, column]
    if not len(pairs):
        return 0.0
    # Each pair stands twice off the diagonal, so entry k of that list is entry k // 2 of this one.
    place = percentile / 100 * (2 * len(pairs) - 1)
    low = math.floor(place)
    high = min(low + 1, 2 * len(pairs) - 1)
    ends = [float(pairs.kthvalue(k // 2 + 1).values) for k in (low, high)]
    return ends[0] + (place - low) * (ends[1] - ends[0])


def cosine_density(similarity: Float[Tensor, "n n"], cutoff: float) -> Int[Tensor, " n"]:
    """Count the rows that are more alike than the cut-off, less those that are less alike.

    ``rho_i = sum_j sign(S_ij - S_c)`` with sign(0) = 0. A row is like itself, which adds the same
    to all.

    Example:
        >>> cosine_density(torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.5], [0.1, 0.5, 1.0]]), 0.5)
        tensor([1, 2, 0])
    """
    return (similarity > cutoff).sum(1) - (similarity < cutoff).sum(1)


def likeness_to_denser(
    similarity: Float[Tensor, "n n"], density: Tensor, *, ties: str = "index"
) -> Float[Tensor, " n"]:
    """Give the similarity of each row to the most similar denser one (eta of SMP).

    A high value marks a near-duplicate of a denser row. A row without a denser one gets its least
    similarity to any other row.

    Args:
        similarity: Symmetric; that of a row with itself does not count.
        density: [n] of any number type.
        ties: Of two rows with the same density, ``index`` takes the earlier one for denser;
            ``strict``, the formula as printed, takes neither, so that duplicates pass unseen.

    Returns:
        [n]; -1 where there is but one row.
    """
    if ties not in TIES:
        raise unknown_name("ties", ties, TIES)
    n = len(density)
    if n == 1:
        return torch.full_like(similarity[0], -1.0)
    denser = density[None, :] > density[:, None]
    if ties == "index":
        earlier = torch.ones_like(denser).tril(-1)
        denser |= (density[None, :] == density[:, None]) & earlier
    most = similarity.masked_fill(~denser, -math.inf).amax(1)
    itself = torch.eye(n, dtype=torch.bool, device=similarity.device)
    least = similarity.masked_fill(itself, math.inf).amin(1)
    return torch.where(denser.any(1), most, least)


def densest_apart(
    density: Tensor, eta: Float[Tensor, " n"], *, count: int, cap: float = 0.95
) -> Int[Tensor, " k"]:
    """Choose the densest rows among those that are no near-duplicates of a denser one.

    Where fewer than `count` stay below the cap, the densest of the others follow.

    Args:
        density: [n]; ties go to the earlier row.
        eta: [n] from `likeness_to_denser`.
        count: Rows to choose; all where there are fewer.
        cap: Rows with an eta below it are apart.
    """
    order = density.argsort(descending=True, stable=True)
    twins_last = (eta[order] >= cap).long().argsort(stable=True)
    return order[twins_last[:count]]


def densest(density: Tensor, *, count: int) -> Int[Tensor, " k"]:
    """Choose the densest rows, near-duplicates or not: the control of `densest_apart`."""
    return density.argsort(descending=True, stable=True)[:count]


def distances(features: Float[Tensor, "n D"]) -> Float[Tensor, "n n"]:
    """Give the Euclidean distance of every pair of rows."""
    # Not by one matrix product, whose rounding makes equal rows differ.
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def density_peaks(
    distance: Float[Tensor, "n n"], *, percentile: float = 2.0
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Give the density of each row, and its distance to the nearest denser one.

    The density counts the other rows nearer than a cut-off. The densest row gets its largest
    distance; of rows with the same density the earlier one counts as denser. Source: Rodriguez
    and Laio 2014 (density peaks), whose rule of thumb is 1 to 2 % of all rows within the cut-off.

    Args:
        distance: Symmetric.
        percentile: 0 to 100, of the distances between different rows: the cut-off.
    """
    n = len(distance)
    if n == 1:
        return torch.zeros_like(distance[0], dtype=torch.int64), torch.zeros_like(distance[0])
    cutoff = percentile_of_pairs(distance, percentile=percentile)
    itself = torch.eye(n, dtype=torch.bool, device=distance.device)
    rho = ((distance < cutoff) & ~itself).sum(1)
    return rho, -likeness_to_denser(-distance, rho, ties="index")


def highest_peaks(
    density: Tensor, distance: Float[Tensor, " n"], *, count: int
) -> Int[Tensor, " k"]:
    """Choose the rows with the largest product of density and distance to a denser row."""
    return (density * distance).argsort(descending=True, stable=True)[:count]
