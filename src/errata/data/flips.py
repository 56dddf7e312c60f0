"""Kinds of label noise as pure functions: labels in, new labels out.

Rows without a label (-1) never change. Counts are exact where a rate is a count of rows; kinds that
are a distribution (`draw_by_matrix`, `draw_from_probs`, `draw_by_instance`) draw each row.

Shapes: N rows, n rows of one block, C classes, D numbers per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = [
    "confused_classes",
    "draw_by_instance",
    "draw_by_matrix",
    "draw_classes",
    "draw_from_probs",
    "flip_by_map",
    "flip_other",
    "flip_per_class",
    "instance_probabilities",
    "instance_rates",
    "redraw_uniform",
]

Pixels = Callable[[np.ndarray], np.ndarray]
"""Gives the samples [n, D] float64 of rows [n]."""

_BLOCK = 1024
_CONFUSED_ROWS = 20_000


def redraw_uniform(
    labels: np.ndarray, rate: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw exactly round(rate * N) labels again, uniformly over all classes, the true one included.

    So about ``rate * (C - 1) / C`` of the labels become wrong. Source: the symmetric noise of Joint
    Optimization (arXiv:1803.11364) and DivideMix (arXiv:2002.07394).

    Args:
        labels: [N] int64; N counts the labelled rows.
        rate: 0 to 1.
        classes: Number of classes.
        rng: Where the choice comes from.
    """
    new = labels.copy()
    chosen = _choose(np.flatnonzero(labels >= 0), rate, rng)
    new[chosen] = rng.integers(0, classes, len(chosen))
    return new


def flip_other(
    labels: np.ndarray, rate: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Change exactly round(rate * N) labels, each to another class drawn uniformly.

    Source: the symmetric noise of Patrini et al. 2017 (arXiv:1609.03683), here with an exact count.
    """
    new = labels.copy()
    chosen = _choose(np.flatnonzero(labels >= 0), rate, rng)
    new[chosen] = _others(labels[chosen], classes, rng)
    return new


def flip_per_class(
    labels: np.ndarray, rates: Sequence[float], classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Change exactly round(rates[c] * N_c) labels of each class c to other classes, uniformly.

    Args:
        labels: [N] int64.
        rates: [C] 0 to 1.
        classes: Number of classes.
        rng: Where the choice comes from.
    """
    new = labels.copy()
    for label in range(classes):
        chosen = _choose(np.flatnonzero(labels == label), rates[label], rng)
        new[chosen] = _others(labels[chosen], classes, rng)
    return new


def flip_by_map(
    labels: np.ndarray, mapping: np.ndarray, rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Change exactly round(rate * N_c) labels of each class c to ``mapping[c]``.

    A class that maps to itself stays clean, so the share of wrong labels may be below `rate`.

    Args:
        labels: [N] int64.
        mapping: [C] int64 class numbers.
        rate: 0 to 1, within each class that maps to another.
        rng: Where the choice comes from.
    """
    new = labels.copy()
    for label in range(len(mapping)):
        if mapping[label] != label:
            new[_choose(np.flatnonzero(labels == label), rate, rng)] = mapping[label]
    return new


def draw_by_matrix(labels: np.ndarray, T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw every label from the row of its class: ``T[i, j]`` = P(given j | true i).

    Args:
        labels: [N] int64.
        T: [C, C], rows sum to one.
        rng: Where the draws come from.
    """
    new = labels.copy()
    for label in range(len(T)):
        rows = np.flatnonzero(labels == label)
        new[rows] = draw_classes(np.broadcast_to(T[label], (len(rows), len(T))), rng)
    return new


def draw_from_probs(
    labels: np.ndarray,
    probs: np.ndarray,
    rng: np.random.Generator,
    *,
    rate: float | None = None,
) -> np.ndarray:
    """Draw labels from the predicted probabilities of another model.

    Args:
        labels: [N] int64.
        probs: [N, C]; may be memory-mapped, it is read in blocks.
        rng: Where the draws come from.
        rate: Draw only round(rate * N) of the labelled rows; None draws all of them.
    """
    new = labels.copy()
    rows = np.flatnonzero(labels >= 0)
    if rate is not None:
        rows = np.sort(_choose(rows, rate, rng))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        new[block] = draw_classes(np.asarray(probs[block], dtype=np.float64), rng)
    return new


def draw_by_instance(
    labels: np.ndarray, pixels: Pixels, rate: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw labels that depend on the picture: the part-dependent noise of Xia et al. 2020.

    Each row has its own flip rate, see `instance_rates`, and the class it flips to is the one whose
    random projection of the pixels is high. Source: arXiv:2006.07836. A rate of 0 changes nothing.

    Args:
        labels: [N] int64.
        pixels: Gives the samples of rows, centred about 0; called with few rows at a time.
        rate: Mean of the flip rates before they are cut to 0 to 1.
        classes: Number of classes.
        rng: Where the draws come from.
    """
    new = labels.copy()
    if rate == 0:
        return new
    rates = instance_rates(len(labels), rate, rng)
    for label in range(classes):
        projection: np.ndarray | None = None
        rows = np.flatnonzero(labels == label)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            samples = pixels(block)
            if projection is None:
                projection = rng.normal(size=(samples.shape[1], classes))
            P = instance_probabilities(samples, label, rates[block], projection)
            new[block] = draw_classes(P, rng)
    return new


def instance_rates(
    count: int, mean: float, rng: np.random.Generator, *, spread: float = 0.1
) -> np.ndarray:
    """Draw flip rates [count] from a normal distribution truncated to 0 to 1.

    Args:
        count: How many.
        mean: Mean before truncation, 0 to 1.
        rng: Where the draws come from.
        spread: Standard deviation before truncation.
    """
    rates = rng.normal(mean, spread, count)
    # At least half of the mass of the normal lies inside, so few rounds are needed.
    while len(outside := np.flatnonzero((rates < 0) | (rates > 1))):
        rates[outside] = rng.normal(mean, spread, len(outside))
    return rates


def instance_probabilities(
    samples: np.ndarray, label: int, rates: np.ndarray, projection: np.ndarray
) -> np.ndarray:
    """Give the label distribution [n, C] of rows of one class.

    The other classes share `rates` in proportion to the softmax of the projected sample.

    Args:
        samples: [n, D].
        label: The true class of all of them.
        rates: [n] flip rates, 0 to 1.
        projection: [D, C].
    """
    scores = samples @ projection
    scores[:, label] = -np.inf
    scores -= scores.max(1, keepdims=True)
    P = np.exp(scores)
    P *= (rates / P.sum(1))[:, None]
    P[:, label] = 1 - rates
    return np.asarray(P)


def draw_classes(probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one class [n] from each row of `probs` [n, C]; a class of probability 0 never comes."""
    edges = np.cumsum(probs, axis=1)
    points = rng.random(len(probs)) * edges[:, -1]
    drawn = (edges <= points[:, None]).sum(1)
    # Rounding can put a point on the last edge; it belongs to the last class that can occur.
    last = probs.shape[1] - 1 - np.argmax(probs[:, ::-1] > 0, axis=1)
    return np.asarray(np.minimum(drawn, last), dtype=np.int64)


def confused_classes(
    labels: np.ndarray, pixels: Pixels, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Find for each class the one it is most often taken for, by the nearest mean of the pixels.

    Each class is halved at random; one half is judged by the means of the other, and the other way
    round. A class that is never mistaken goes to the class with the nearest mean. At most about
    20,000 rows are looked at. Our choice: no paper defines asymmetric noise for any data.

    Args:
        labels: [N] int64.
        pixels: Gives the samples of rows; called with few rows at a time.
        classes: Number of classes.
        rng: Where the halving comes from.

    Returns:
        [C] int64 class numbers; a class maps to itself only where no other class has rows.
    """
    cap = max(2, _CONFUSED_ROWS // classes)
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == label))[:cap]
        middle = (len(rows) + 1) // 2
        halves[0].append(rows[:middle])
        halves[1].append(rows[middle:])
    means = [_class_means(rows, pixels) for rows in halves]
    confusion = np.zeros((classes, classes), dtype=np.int64)
    for side, other in ((0, 1), (1, 0)):
        for label, rows in enumerate(halves[side]):
            for start in range(0, len(rows), _BLOCK):
                near = _distances(pixels(rows[start : start + _BLOCK]), means[other]).argmin(1)
                confusion[label] += np.bincount(near, minlength=classes)
    np.fill_diagonal(confusion, 0)
    # The first half has a row of every class that has any.
    apart = _distances(np.nan_to_num(means[0]), means[0])
    np.fill_diagonal(apart, np.inf)
    mapping = np.where(confusion.any(1), confusion.argmax(1), apart.argmin(1))
    alone = ~confusion.any(1) & np.isinf(apart).all(1)
    return np.where(alone, np.arange(classes), mapping).astype(np.int64)


def _class_means(rows_of: Sequence[np.ndarray], pixels: Pixels) -> np.ndarray:
    """Average the samples of each class [C, D]; NaN for a class without rows."""
    means: list[np.ndarray | None] = []
    for rows in rows_of:
        total: np.ndarray | None = None
        for start in range(0, len(rows), _BLOCK):
            block = pixels(rows[start : start + _BLOCK]).sum(0)
            total = block if total is None else total + block
        means.append(None if total is None else total / len(rows))
    width = next(len(mean) for mean in means if mean is not None)
    return np.stack([np.full(width, np.nan) if mean is None else mean for mean in means])


def _distances(samples: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Squared distances [n, C] up to a constant per row; infinite to a class without a mean."""
    apart = (means**2).sum(1) - 2 * samples @ means.T
    return np.where(np.isnan(apart), np.inf, apart)


def _choose(rows: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Choose exactly round(rate * n) of the rows."""
    return rng.permutation(rows)[: round(rate * len(rows))]


def _others(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw for each label another class, uniformly."""
    return (labels + rng.integers(1, classes, len(labels))) % classes if len(labels) else labels
