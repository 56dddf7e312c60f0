"""Transition matrices: reading one, and estimating one from predictions and given labels.

``T[i, j]`` is the probability of the given label j where class i is true, so that rows sum to
one. The estimators take the noisy posterior: what a net that was trained on the given labels
predicts, p(given | x). They assume that noise depends on the class alone, and all but the trusted
one that every class is most often labelled as itself: the matrix of Clothing1M, where sweaters are
called knitwear, misleads them (see the tests and the docs, "Transition matrices").

Shapes: N rows, M trusted rows, C classes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError

__all__ = [
    "anchor_rows",
    "check_transition",
    "estimate_by_anchors",
    "estimate_by_counts",
    "estimate_by_trusted",
    "estimate_dual",
    "read_transition",
    "weigh_by_given",
]

_SLACK = 1e-3
"""How far the sum of a row may lie off one: half precision and rounded decimals do."""
_MOST_CONDITION = 1e6


def check_transition(
    transition: Tensor, *, name: str, classes: int | None = None, invertible: bool = False
) -> Float[Tensor, "C C"]:
    """Give a matrix in double precision with rows that sum to one, or say why it is none.

    Args:
        transition: What should be T.
        name: Of the matrix, for messages.
        classes: C; None takes any.
        invertible: Refuses a matrix without a usable inverse, with a condition above 1e6.

    Raises:
        SettingsError: It is not square, of another size, not row-stochastic, or singular.
    """
    T = transition.detach().double()
    if T.dim() != 2 or T.shape[0] != T.shape[1]:
        raise SettingsError(
            f"transition matrix `{name}` has the shape `{tuple(T.shape)}`; allowed: two equal "
            "sides",
            hint="give one row per true and one column per given class",
        )
    if classes is not None and len(T) != classes:
        raise SettingsError(
            f"transition matrix `{name}` has the shape `{tuple(T.shape)}`; allowed: "
            f"`{(classes, classes)}`, one row per true and one column per given class",
            hint="give the matrix of these classes, in their order",
        )
    fine = _stochastic(T)
    if not fine.all():
        row = int((~fine).nonzero()[0])
        turned = "; its columns sum to one: transpose it" if _stochastic(T.T).all() else ""
        raise SettingsError(
            f"row {row} of transition matrix `{name}` is no distribution (it sums to "
            f"{float(T[row].sum()):.4g}); allowed: numbers from 0 to 1, each row summing to one",
            hint=f"T[i, j] is the probability of the given label j for the true class i{turned}",
        )
    if invertible and not float(torch.linalg.cond(T)) <= _MOST_CONDITION:
        raise SettingsError(
            f"transition matrix `{name}` is singular: two of its rows say almost the same; "
            "allowed: a matrix with an inverse",
            hint="join the classes that are given the same labels, or take an estimate",
        )
    return T / T.sum(1, keepdim=True)


def _stochastic(T: Tensor) -> Tensor:
    """Tell of each row whether it is a distribution."""
    off = (T.sum(1) - 1).abs()
    return ((T >= 0) & (T <= 1 + _SLACK)).all(1) & (off <= _SLACK)


def read_transition(path: Path, classes: int) -> Float[Tensor, "C C"]:
    """Read T from an npy file, or from a csv file of C lines of C numbers without a header.

    Raises:
        SettingsError: The file is missing, holds no numbers, or no matrix of these classes.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).astype(np.float64)
        else:
            with warnings.catch_warnings():
                # An empty file is only warned of.
                warnings.simplefilter("error", UserWarning)
                values = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError, UserWarning) as error:
        raise SettingsError(
            f"transition matrix `{path}` cannot be read: {error}; allowed: an npy file, or a csv "
            "file of numbers without a header",
            hint="write it with numpy.save",
        ) from error
    return check_transition(torch.from_numpy(values), name=str(path), classes=classes)


def anchor_rows(
    posterior: Float[Tensor, "N C"], *, filter_outliers: bool = True, percentile: float = 97.0
) -> Int[Tensor, " C"]:
    """Find for each class the row that is surest of it.

    Args:
        posterior: p(given | x), [N, C], without NaN.
        filter_outliers: Leaves out, for each class, the rows above its percentile. The authors do
            so on all data sets but CIFAR-100, and leave out the percentile itself as well.
        percentile: Of the column of the class, 0 to 100.

    Returns:
        Row numbers [C]. Of equally sure rows the one with the largest posterior of class 0, then
        of class 1 and so on, so that the order of the rows does not matter.
    """
    assert not posterior.isnan().any(), "the posterior holds NaN"
    columns = posterior.double()
    rows = torch.empty(columns.shape[1], dtype=torch.int64, device=posterior.device)
    for label in range(columns.shape[1]):
        # A copy for each class: filtering in place would blind the classes that follow.
        own = columns[:, label].clone()
        if filter_outliers:
            kept = own <= torch.quantile(own.cpu(), percentile / 100).to(own.device)
            own = torch.where(kept, own, -1.0)
        tied = (own == own.max()).nonzero()[:, 0]
        for other in range(columns.shape[1]) if len(tied) > 1 else ():
            values = columns[tied, other]
            tied = tied[values == values.max()]
        rows[label] = tied[0]
    return rows


def estimate_by_anchors(
    posterior: Float[Tensor, "N C"], *, filter_outliers: bool = True, percentile: float = 97.0
) -> Float[Tensor, "C C"]:
    """Read T off anchors: the posterior of the row that is surest of a class is that class's row.

    Source: Patrini et al. 2017, arXiv:1609.03683; `anchor_rows` says what is filtered.

    Example:
        >>> posterior = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.6, 0.4]])
        >>> estimate_by_anchors(posterior, filter_outliers=False)
        tensor([[0.8000, 0.2000],
                [0.4000, 0.6000]], dtype=torch.float64)
    """
    rows = anchor_rows(posterior, filter_outliers=filter_outliers, percentile=percentile)
    T = posterior[rows].double().cpu()
    return T / T.sum(1, keepdim=True)


def estimate_by_counts(
    posterior: Float[Tensor, "N C"], given: Int[Tensor, " N"], *, surest: float = 1.0
) -> Float[Tensor, "C C"]:
    """Count how rows that the net calls i are labelled: right where its answers are.

    Args:
        posterior: p(given | x), [N, C].
        given: Labels [N]; rows without (-1) do not count.
        surest: Share of the rows of each predicted class that count, the surest ones; above 0, up
            to 1. Among half of them the net is hardly ever wrong, and they are still many.

    Returns:
        T. A class that the net never predicts is taken to be labelled as itself.
    """
    assert 0 < surest <= 1, surest
    classes = posterior.shape[1]
    _check_labels(given, classes)
    highest, predicted = posterior.max(1)
    used = given >= 0
    for label in range(classes) if surest < 1 else ():
        own = used & (predicted == label)
        if own.any():
            used &= ~own | (highest >= torch.quantile(highest[own].double().cpu(), 1 - surest))
    codes = predicted[used] * classes + given[used]
    counts = torch.bincount(codes.cpu(), minlength=classes * classes).double()
    return _normalised(counts.reshape(classes, classes))


def estimate_dual(
    posterior: Float[Tensor, "N C"], given: Int[Tensor, " N"]
) -> Float[Tensor, "C C"]:
    """Go from the true to the given class by way of the class that the net predicts.

    The first factor is read off the surest rows, which a net is often too sure of and never too
    sure of the wrong class; the second, `estimate_by_counts`, needs no probability to be right.
    Source: Yao et al. 2020, Dual T (arXiv:2006.07805). With an exact posterior both factors hold
    the noise, and the product has it twice: it is made for nets, which are too sure.

    Args:
        posterior: p(given | x), [N, C].
        given: Labels [N]; rows without (-1) do not count.
    """
    first = estimate_by_anchors(posterior, filter_outliers=False)
    return first @ estimate_by_counts(posterior, given)


def estimate_by_trusted(
    posterior: Float[Tensor, "M C"], true: Int[Tensor, " M"]
) -> Float[Tensor, "C C"]:
    """Average the posterior over trusted rows of each class: right for any T.

    Source: Hendrycks et al. 2018, gold loss correction, arXiv:1802.05300.

    Args:
        posterior: p(given | x) of trusted rows, [M, C].
        true: Their classes [M]; rows without (-1) do not count.

    Returns:
        T. A class without trusted rows is taken to be labelled as itself.
    """
    classes = posterior.shape[1]
    _check_labels(true, classes)
    known = true >= 0
    posterior, true = posterior[known], true[known]
    sums = torch.zeros(classes, classes, dtype=torch.float64)
    return _normalised(sums.index_add(0, true.cpu(), posterior.double().cpu()))


def weigh_by_given(
    prediction: Float[Tensor, "N C"],
    given: Int[Tensor, " N"],
    T: Float[Tensor, "C C"],
    *,
    temperature: float = 0.5,
) -> Float[Tensor, "N C"]:
    """Ask the given label as well: ``p(k | x, given) ~ p(k | x) T[k, given]``.

    A prediction made before the label was learned, and the label, are two witnesses of the true
    class; Bayes' rule weighs one by the other. A net that learns noisy labels predicts those, so
    its answers are flatter than what it knows of the true class: `temperature` sharpens them.

    Args:
        prediction: What is believed without the given label, [N, C], rows sum to 1.
        given: Labels [N]; rows without (-1) are sharpened only.
        T: p(given j | true i), [C, C], rows sum to 1.
        temperature: Above 0; 1 leaves predictions as they are. 0.5 is the usual sharpening
            (Berthelot et al. 2019, MixMatch; Li et al. 2020, DivideMix).

    Returns:
        Label distributions [N, C]; a row that nothing explains keeps its sharpened prediction.

    Example:
        >>> T = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
        >>> weigh_by_given(torch.tensor([[0.75, 0.25]]), torch.tensor([1]), T, temperature=1.0)
        tensor([[0.4286, 0.5714]])
    """
    _check_labels(given, len(T))
    sharp = (prediction.double().clamp_min(0).log() / temperature).softmax(1)
    likelihood = T.to(sharp)[:, given.clamp_min(0)].T
    joint = torch.where(given[:, None] >= 0, sharp * likelihood, sharp)
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / total.clamp_min(1e-300), sharp).to(prediction)


def _check_labels(labels: Tensor, classes: int) -> None:
    if len(labels) and int(labels.max()) >= classes:
        raise SettingsError(
            f"label `{int(labels.max())}` is no column of the posterior; allowed: 0 to "
            f"{classes - 1}, and -1 for rows without a label",
            hint="give the posterior of all classes",
        )


def _normalised(sums: Tensor) -> Tensor:
    """Divide rows by their sums; rows of nothing become those of the identity."""
    total = sums.sum(1, keepdim=True)
    identity = torch.eye(len(sums), dtype=sums.dtype)
    return torch.where(total > 0, sums / total.clamp_min(1e-300), identity)
