"""Measures of suspicion, prediction and calibration, in numpy alone.

Ties are handled as scikit-learn handles them. What is undefined is NaN: an AUROC where no row is
positive, the accuracy of no rows. NaN among the inputs is a programming error.

Shapes: N rows, C classes. `scores` [N] are higher where a row is more likely positive (wrong);
`positive` [N] says which are; `probs` [N, C] are predicted; `labels` [N] are the class numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "accuracy",
    "aurc",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "ece",
    "fnr_at_rate",
    "nll",
    "oracle_f1",
    "per_class_recall",
    "precision_recall_f1",
    "top_k_accuracy",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.signedinteger[Any]]
Bools = NDArray[np.bool_]

_FLOOR = 1e-12


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive row scores above another one, ties counting half.

    NaN unless there are rows of both kinds.

    Example:
        >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        0.75
    """
    scores, positive = _scored(scores, positive)
    num_positive = int(positive.sum())
    num_other = len(positive) - num_positive
    if not num_positive or not num_other:
        return float("nan")
    _, block, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks = (last - (sizes - 1) / 2)[block]
    above = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_other))


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Mean precision over the recall gained at each distinct score. NaN without positives.

    Example:
        >>> round(average_precision([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), 6)
        0.833333
    """
    hits, flagged, num_positive = _thresholds(*_scored(scores, positive))
    if not num_positive:
        return float("nan")
    gained = np.diff(hits, prepend=0) / num_positive
    return float((gained * hits / flagged).sum())


def precision_recall_f1(flagged: ArrayLike, positive: ArrayLike) -> tuple[float, float, float]:
    """Precision, recall and F1 of a set of flagged rows [N].

    As in scikit-learn, a share of nothing counts 0: precision where nothing is flagged.

    Example:
        >>> precision_recall_f1([True, True, False, False], [True, False, True, False])
        (0.5, 0.5, 0.5)
    """
    flags, truth = np.asarray(flagged, dtype=bool), np.asarray(positive, dtype=bool)
    assert flags.shape == truth.shape, (flags.shape, truth.shape)
    hits, num_flagged, num_positive = (int(v.sum()) for v in (flags & truth, flags, truth))
    return (
        hits / max(num_flagged, 1),
        hits / max(num_positive, 1),
        2 * hits / max(num_flagged + num_positive, 1),
    )


def oracle_f1(scores: ArrayLike, positive: ArrayLike) -> float:
    """Best F1 that any threshold on the scores reaches; tied rows go together.

    An upper bound: choosing the threshold takes the truth. NaN without positives.
    """
    hits, flagged, num_positive = _thresholds(*_scored(scores, positive))
    if not num_positive:
        return float("nan")
    return float((2 * hits / (flagged + num_positive)).max())


def fnr_at_rate(scores: ArrayLike, positive: ArrayLike) -> float:
    """Share of positives missed when as many rows are flagged as there are positives.

    The highest scores are flagged, ties in row order. NaN without positives.
    """
    scores, positive = _scored(scores, positive)
    num_positive = int(positive.sum())
    top = np.argsort(-scores, kind="stable")[:num_positive]
    return _ratio(num_positive - int(positive[top].sum()), num_positive)


def accuracy(probs: ArrayLike, labels: ArrayLike) -> float:
    """Share of rows whose likeliest class is the label."""
    _, correct = _confidence(probs, labels)
    return _ratio(int(correct.sum()), len(correct))


def top_k_accuracy(probs: ArrayLike, labels: ArrayLike, *, k: int = 5) -> float:
    """Share of rows whose label is among the `k` likeliest classes, all of them if there are fewer.

    As in scikit-learn, the later of two equally likely classes comes first.
    """
    assert k >= 1, k
    table, truth = _predicted(probs, labels)
    top = np.argsort(table, axis=1, kind="stable")[:, ::-1][:, :k]
    return _ratio(int((top == truth[:, None]).any(1).sum()), len(truth))


def per_class_recall(probs: ArrayLike, labels: ArrayLike) -> Floats:
    """Share of each class's rows that were predicted as it [C]; NaN for a class without rows."""
    table, truth = _predicted(probs, labels)
    classes = table.shape[1]
    sizes = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[table.argmax(1) == truth], minlength=classes)
    recall: Floats = np.divide(hits, sizes, out=np.full(classes, np.nan), where=sizes > 0)
    return recall


def balanced_accuracy(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean recall of the classes that have rows."""
    recall = per_class_recall(probs, labels)
    return _mean(recall[~np.isnan(recall)])


def nll(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood [nats]; probabilities below 1e-12 count as 1e-12."""
    table, truth = _predicted(probs, labels)
    at_label = table[np.arange(len(truth)), truth]
    return _mean(-np.log(np.maximum(at_label, _FLOOR)))


def brier(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance from the label, summed over classes: 0 (perfect) to 2."""
    table, truth = _predicted(probs, labels)
    at_label = table[np.arange(len(truth)), truth]
    return _mean(np.square(table).sum(1) - 2 * at_label + 1)


def ece(probs: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy, 0 (calibrated) to 1.

    Bins hold equally many rows, ties in row order: bins of equal width are nearly all empty for a
    confident net (Nixon et al. 2019, arXiv:1904.01685).
    """
    assert bins >= 1, bins
    confidence, correct = _confidence(probs, labels)
    order = np.argsort(confidence, kind="stable")
    gaps = [abs((confidence[rows] - correct[rows]).sum()) for rows in np.array_split(order, bins)]
    return _ratio(float(sum(gaps)), len(order))


def aurc(probs: ArrayLike, labels: ArrayLike) -> float:
    """Area under the risk-coverage curve: mean error of the k surest rows over all k.

    Ties in row order. Source: Geifman et al. 2019, arXiv:1805.08206.
    """
    confidence, correct = _confidence(probs, labels)
    errors = ~correct[np.argsort(-confidence, kind="stable")]
    return _mean(np.cumsum(errors) / np.arange(1, len(errors) + 1))


def _scored(scores: ArrayLike, positive: ArrayLike) -> tuple[Floats, Bools]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    assert values.shape == truth.shape == (len(values),), (values.shape, truth.shape)
    assert not np.isnan(values).any(), "scores hold NaN"
    return values, truth


def _thresholds(scores: Floats, positive: Bools) -> tuple[Ints, Ints, int]:
    """Count positives and rows at or above each distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # Compared, not subtracted: the difference of two infinite scores is NaN.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], len(order) > 0))
    return np.cumsum(positive[order], dtype=np.int64)[ends], ends + 1, int(positive.sum())


def _predicted(probs: ArrayLike, labels: ArrayLike) -> tuple[Floats, Ints]:
    table, truth = np.asarray(probs, dtype=np.float64), np.asarray(labels).astype(np.int64)
    assert table.shape == (*truth.shape, table.shape[-1]), (table.shape, truth.shape)
    assert not np.isnan(table).any(), "probabilities hold NaN"
    assert ((truth >= 0) & (truth < table.shape[1])).all(), "no such class"
    return table, truth


def _confidence(probs: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    table, truth = _predicted(probs, labels)
    return table.max(1), table.argmax(1) == truth


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")


def _mean(values: Floats) -> float:
    return _ratio(float(values.sum()), len(values))
