"""How detectors read a ledger: ranks, means per view, averaged predictions, early margins.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import numpy as np
import torch

from errata.ledger import Ledger

__all__ = [
    "averaged_probs",
    "column",
    "early_margins",
    "forgetting_events",
    "given_labels",
    "labelled",
    "mean_per_view",
    "normal_scores",
    "propose",
    "proposed_classes",
    "rank_suspicion",
    "rival_probs",
    "rows_by_group",
]

EARLY = (0.15, 0.35)
"""Share of training in which labels are mostly learned and not yet memorised. In audits of digits
with 30 % asymmetric errors AUROC of these margins is .92, and .90 over all epochs."""


def rank_suspicion(values: np.ndarray) -> np.ndarray:
    """Turn any values into 0 to 1 by rank; equal values share their average rank.

    Args:
        values: [N], higher = more suspicious; NaN stays NaN and does not count.

    Example:
        >>> rank_suspicion(np.array([3.0, 1.0, np.nan, 3.0])).round(3).tolist()
        [0.667, 0.167, nan, 0.667]
    """
    suspicion = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.any():
        _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - counts / 2
        suspicion[known] = middle[place] / known.sum()
    return suspicion


def normal_scores(suspicion: np.ndarray) -> np.ndarray:
    """Give the normal quantiles [N] of values between 0 and 1; NaN stays NaN."""
    shares = torch.from_numpy(np.asarray(suspicion, dtype=np.float64))
    return np.asarray(torch.special.ndtri(shares).numpy())


def mean_per_view(total: np.ndarray, times_seen: np.ndarray) -> np.ndarray:
    """Divide sums [N] or [N, C] by the number of views [N]; NaN where a row was never seen."""
    times = np.where(times_seen > 0, times_seen, np.nan).astype(np.float64)
    return np.asarray(total / (times if total.ndim == 1 else times[:, None]))


def forgetting_events(forgets: np.ndarray, first_learned: np.ndarray) -> np.ndarray:
    """Count how often each row was forgotten [N]; a row never learned ranks above all others.

    Source: Toneva et al. 2019 (arXiv:1812.05159). Wrong labels are forgotten more often, but so
    are hard ones; weak alone.

    Args:
        forgets: [N] changes from predicted as given to predicted otherwise.
        first_learned: [N] first epoch predicted as given, -1 for never.
    """
    counts = forgets.astype(np.float64)
    return np.where(first_learned < 0, counts.max(initial=0) + 1, counts)


def propose(probs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give the most probable class [N]; -1 where it is the given one or nothing is known.

    Args:
        probs: [N, C] in any scale; NaN or all-zero rows are unknown.
        given: [N] class numbers; -1 is unlabelled.
    """
    best = probs.argmax(1)
    known = np.take_along_axis(probs, best[:, None], axis=1)[:, 0] > 0
    return np.where(known & (best != given), best, -1)


def averaged_probs(ledger: Ledger) -> np.ndarray | None:
    """Give the averaged prediction of training [N, C] float32, rows summing to one.

    Rows that training never saw, such as unlabelled ones, take the prediction of the final sweep.
    NaN where neither is known; None where the ledger keeps neither.
    """
    final_probs = column(ledger, "final_prob") if ledger.has("final_prob") else None
    if not ledger.has("prob_sum"):
        return None if final_probs is None else final_probs.astype(np.float32)
    probs = column(ledger, "prob_sum")
    total = probs.sum(1, keepdims=True)
    seen = total[:, 0] > 0
    np.divide(probs, total, out=probs, where=seen[:, None])
    probs[~seen] = np.nan if final_probs is None else final_probs[~seen]
    return probs


def proposed_classes(ledger: Ledger) -> np.ndarray:
    """Give the class [N] with the highest averaged probability; -1 where it is the given one."""
    probs = averaged_probs(ledger)
    if probs is None:
        return np.full(ledger.num_rows, -1, dtype=np.int64)
    return propose(np.nan_to_num(probs), given_labels(ledger))


def labelled(ledger: Ledger, values: np.ndarray) -> np.ndarray:
    """Copy values [N] as float64, with NaN where the row has no label."""
    return np.where(given_labels(ledger) >= 0, values.astype(np.float64), np.nan)


def rival_probs(probs: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the probability of the given label [N] and of the best other class [N].

    Args:
        probs: [N, C].
        given: [N] class numbers; an unlabelled row gives NaN for both.
    """
    rows = np.arange(len(given))
    own = probs[rows, np.maximum(given, 0)].astype(np.float64)
    others = probs.copy()
    others[rows, np.maximum(given, 0)] = -np.inf
    rival = others.max(1).astype(np.float64)
    unlabelled = given < 0
    return np.where(unlabelled, np.nan, own), np.where(unlabelled, np.nan, rival)


def early_margins(
    curve: np.ndarray,
    filled: np.ndarray,
    probs: np.ndarray,
    given: np.ndarray,
    *,
    window: tuple[float, float] = EARLY,
) -> np.ndarray:
    """Estimate log p(given) - log p(best other) [N], averaged over an early part of training.

    Only the loss of the given label is kept per epoch. The share of the other classes' probability
    that belongs to the best of them is taken from the averaged prediction, since it changes little.
    Our choice: late epochs memorise wrong labels, and then their losses tell nothing.

    Args:
        curve: [N, E] losses [nats], oldest first, filled from the end.
        filled: [N] entries that a row holds.
        probs: [N, C] averaged prediction.
        given: [N] class numbers.
        window: Shares of training, 0 to 1, between which epochs count.

    Returns:
        [N] float64; NaN where a row was never seen or has no label.
    """
    longest = int(filled.max(initial=0))
    if not longest:
        return np.full(len(given), np.nan)
    first = int(window[0] * longest)
    steps = np.arange(first, max(int(window[1] * longest), first + 1))
    # A row that left training early counts with the last entry it has.
    steps = np.minimum(steps[None], np.maximum(filled[:, None] - 1, 0))
    places = np.clip(curve.shape[1] - filled[:, None] + steps, 0, curve.shape[1] - 1)
    loss = np.take_along_axis(curve, places, axis=1).astype(np.float64)
    loss = np.clip(np.where(filled[:, None] > 0, loss, np.nan), 1e-4, None)
    odds = -loss - np.log(-np.expm1(-loss))
    own, rival = rival_probs(probs, given)
    share = rival / np.maximum(1 - own, 1e-6)
    return np.asarray(np.maximum(odds, -9.2).mean(1) - np.log(np.clip(share, 0.01, 1)))


def rows_by_group(group: np.ndarray) -> list[np.ndarray]:
    """List the rows of each group, in ascending order of both; rows of group -1 are in none.

    Example:
        >>> [rows.tolist() for rows in rows_by_group(np.array([2, 0, -1, 2]))]
        [[1], [0, 3]]
    """
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows) and group[rows[0]] >= 0]


def column(ledger: Ledger, name: str) -> np.ndarray:
    """Copy a ledger column into numpy."""
    return np.asarray(ledger.read(name).cpu().numpy())


def given_labels(ledger: Ledger) -> np.ndarray:
    """Give the labels [N] int64; -1 is unlabelled."""
    return np.asarray(ledger.given.cpu().numpy())
