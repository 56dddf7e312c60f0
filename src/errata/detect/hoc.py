"""HOC: the transition matrix and the share of wrong labels, from neighbours alone.

Rows that are nearest to one another mostly have the same true class. Their given labels are then
drawn three times from one row of T, and how often one, two and three of them agree tells T and the
prior. Neither anchors nor a trained model are needed. Source: Zhu, Song and Liu 2021,
"Clusterability as an alternative to anchor points when learning with noisy labels",
arXiv:2102.05291.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from errata.errors import SettingsError

__all__ = [
    "ConsensusCounts",
    "HOCEstimate",
    "consensus_counts",
    "estimate_by_consensus",
    "estimate_by_neighbours",
    "expected_consensus",
]

MOST_CLASSES = 200
_START = 5.0
_GENTLE_STEPS = 100
_STEPS = 200


@dataclass(frozen=True)
class ConsensusCounts:
    """How often labels come together: of rows, of rows and their nearest, and the second nearest.

    Attributes:
        first: [C] share of rows with a label.
        second: [C, C] share of rows with the label i whose nearest row has the label j.
        third: [C, C, C] the same, with the label l of the second nearest row.
    """

    first: Tensor
    second: Tensor
    third: Tensor


@dataclass(frozen=True)
class HOCEstimate:
    """What the consensus of neighbours says.

    Attributes:
        T: [C, C], T[i, j] = P(given j | true i).
        prior: [C] P(true i).
        rate: Share of wrong labels, 0 to 1.
        misfit: How far the observed consensus lies from the fitted one, as a share of its size;
            large where neighbours often have different true classes.
    """

    T: np.ndarray
    prior: np.ndarray
    rate: float
    misfit: float


def consensus_counts(near: np.ndarray, given: np.ndarray, *, classes: int) -> ConsensusCounts:
    """Count the labels of rows and their two nearest rows.

    All rows are counted once. The authors average 50 draws of 15,000 rows, whose expectation is
    the same but for neighbours that are further away.

    Args:
        near: [N, 2 or more] labelled rows, nearest first.
        given: [N] class numbers; rows of -1 do not count.
        classes: C, at most 200: there are C cubed counts.

    Raises:
        SettingsError: Too many classes, fewer than two neighbours, or no labelled row.
    """
    if classes > MOST_CLASSES:
        raise SettingsError(
            f"`{classes}` classes are too many to count triples of labels; allowed: at most "
            f"{MOST_CLASSES}",
            hint="estimate T from probabilities, see `errata.transition`",
        )
    rows = np.flatnonzero(given >= 0)
    if near.ndim != 2 or near.shape[1] < 2 or not len(rows):
        raise SettingsError(
            f"neighbours have the shape `{near.shape}`; allowed: two or more for each row",
            hint="give at least three labelled rows",
        )
    own, one, two = given[rows], given[near[rows, 0]], given[near[rows, 1]]
    codes = (own * classes + one) * classes + two
    counted = np.bincount(codes, minlength=classes**3).reshape(classes, classes, classes)
    third = torch.from_numpy(counted).double() / len(rows)
    second = third.sum(2)
    return ConsensusCounts(second.sum(1), second, third)


def expected_consensus(T: Float[Tensor, "C C"], prior: Float[Tensor, " C"]) -> ConsensusCounts:
    """Give the consensus of rows whose two nearest rows have the same true class.

    ``third[i, j, l] = sum_c prior[c] T[c, i] T[c, j] T[c, l]``, and so on.
    """
    classes = len(prior)
    weighted = prior[:, None] * T
    pairs = (T[:, :, None] * T[:, None, :]).flatten(1)
    return ConsensusCounts(
        weighted.sum(0), weighted.T @ T, (weighted.T @ pairs).view(classes, classes, classes)
    )


def estimate_by_consensus(
    counts: ConsensusCounts, *, steps: int = _STEPS
) -> tuple[Float[Tensor, "C C"], Float[Tensor, " C"], float]:
    """Fit T and the prior to a consensus by least squares.

    Rows of T and the prior are softmaxes of free parameters, so that they stay distributions.
    Consensus does not tell which fitted class is which: each gets the name of the label that it
    mostly has. The start is the authors', 5 on the diagonal less 1. The three orders count alike,
    each as a share of its own size. The authors add up the three norms and take 500 steps of
    Adam; we add up squares and take 100 steps of Adam, then quasi-Newton steps (L-BFGS), which end
    at the minimum.

    Args:
        counts: The consensus.
        steps: Quasi-Newton steps, at most.

    Returns:
        T, the prior, and the share of the observed consensus that is not explained.
    """
    observed = (counts.first, counts.second, counts.third)
    sizes = [float(part.square().sum()) for part in observed]
    classes = len(counts.first)
    eye = torch.eye(classes, dtype=torch.float64, device=counts.first.device)
    free = (_START * eye - 1).requires_grad_()
    share = counts.first.clamp_min(1 / classes**2).log().clone().requires_grad_()
    gentle = torch.optim.Adam([free, share], lr=0.1)
    descent = torch.optim.LBFGS(
        [free, share],
        max_iter=steps,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def misfit() -> Tensor:
        fitted = expected_consensus(free.softmax(1), share.softmax(0))
        parts = zip((fitted.first, fitted.second, fitted.third), observed, sizes, strict=True)
        return torch.stack([(f - o).square().sum() / size for f, o, size in parts]).sum()

    def closure() -> Tensor:
        gentle.zero_grad()
        loss = misfit()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    # The long first steps of quasi-Newton methods may leave the valley of the start.
    for _ in range(_GENTLE_STEPS):
        closure()
        gentle.step()
    descent.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        left = float((misfit() / 3).sqrt())
        order = _names(free.softmax(1))
        return free.softmax(1)[order], share.softmax(0)[order], left


def _names(T: Float[Tensor, "C C"]) -> list[int]:
    """Name the fitted classes by what they are mostly labelled as; the surest choose first.

    Returns:
        For each class the row of T that is it.
    """
    left, order = T.clone(), [0] * len(T)
    for _ in range(len(T)):
        row, label = divmod(int(left.argmax()), len(T))
        order[label] = row
        left[row], left[:, label] = -1, -1
    return order


def estimate_by_neighbours(near: np.ndarray, given: np.ndarray, *, classes: int) -> HOCEstimate:
    """Estimate T, the prior and the share of wrong labels from the two nearest rows of each.

    It assumes that the three have one true class, that their labels are drawn independently given
    it, and that every class is most often labelled as itself. Where neighbours often belong to
    other classes, confusable classes look like noise and the rate comes out too high; errors that
    are alike in alike rows (of one annotator, or of the look of a row) come out too low.

    Args:
        near: [N, 2 or more] labelled rows, nearest first.
        given: [N] class numbers, -1 for none.
        classes: C, at most 200.

    Raises:
        SettingsError: As for `consensus_counts`.
    """
    T, prior, misfit = estimate_by_consensus(consensus_counts(near, given, classes=classes))
    rate = 1 - float((prior * T.diagonal()).sum())
    return HOCEstimate(T.numpy(), prior.numpy(), rate, misfit)
