"""An unsupervised noise model: which labels are wrong, by sample and by class, from features alone.

Shapes: N rows, F features, G groups, C classes, n rows asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from errata.detect.base import Detector, Scores, register_detector
from errata.detect.reading import (
    averaged_probs,
    column,
    given_labels,
    propose,
    rank_suspicion,
)
from errata.detect.trajectory import (
    ENSEMBLE_READS,
    READS,
    Features,
    ensemble_features,
    join_features,
    normalise,
    normalise_within,
    trajectory_features,
)
from errata.detect.wrong_event import wrong_event_posterior
from errata.ledger import Ledger

__all__ = [
    "NoiseModel",
    "NormalGroups",
    "class_transition",
    "fit_noise_model",
    "fit_normal_groups",
    "sample_transition",
]


@dataclass(frozen=True, eq=False)
class NormalGroups:
    """Two normal distributions for each of G groups.

    Attributes:
        log_odds: [N] log of p(second) / p(first) of each row.
        weights: [G] share of the second one in each group.
    """

    log_odds: np.ndarray
    weights: np.ndarray

    @property
    def posterior(self) -> np.ndarray:
        """Probability [N] of the second component."""
        return np.asarray(0.5 * (1 + np.tanh(0.5 * self.log_odds)))


def fit_normal_groups(
    z: np.ndarray,
    group: np.ndarray,
    start: np.ndarray,
    *,
    rounds: int = 3,
    ridge: float = 0.1,
    borrow: float = 50.0,
) -> NormalGroups:
    """Fit two normal distributions to each group, with a covariance and a prior that all share.

    Weights and means are those of the group, plus `borrow` rows like the average of all groups, so
    that small groups lean on the rest. One covariance for everything makes the log-odds linear in
    the features: nothing but a direction is fitted, and no component can shrink to a point.

    Args:
        z: [N, F] features of about unit variance.
        group: [N] numbers of groups from 0.
        start: [N] first guess of p(second), 0 to 1; which component is the second is settled here.
        rounds: Steps of expectation and maximisation, at least 1.
        ridge: Added to each variance; features that measure the same need it.
        borrow: Rows that a group takes from the average of all.
    """
    number = int(group.max(initial=-1)) + 1
    width = z.shape[1]
    second = np.asarray(start, dtype=np.float64)
    log_odds = np.zeros(len(z))
    weights = np.zeros(number)
    for _ in range(rounds):
        covariance, centres, logs = ridge * np.eye(width), [], []
        for share in (1 - second, second):
            total = share.sum() + 1e-12
            size = np.bincount(group, share, number)
            sums = [np.bincount(group, share * feature, number) for feature in z.T]
            everyone = (share @ z) / total
            mean = (np.stack(sums, axis=1) + borrow * everyone) / (size[:, None] + borrow)
            apart = z - mean[group]
            covariance += (share[:, None] * apart).T @ apart / len(z)
            logs.append(np.log((size + borrow * total / len(z)) + 1e-12))
            centres.append(mean)
        # Linear discriminant: w = S^-1 (m2 - m1), and the middle between the two means.
        direction = np.linalg.solve(covariance, (centres[1] - centres[0]).T).T
        middle = (centres[0] + centres[1]) / 2
        offset = logs[1] - logs[0] - (direction * middle).sum(1)
        log_odds = (z * direction[group]).sum(1) + offset[group]
        second = 0.5 * (1 + np.tanh(0.5 * log_odds))
        weights = 1 / (1 + np.exp(np.clip(logs[0] - logs[1], -50, 50)))
    return NormalGroups(log_odds, weights)


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """What the noise model says.

    Attributes:
        posterior: [N] probability that the given label is wrong; NaN where a row has no label or
            was never seen.
        log_odds: [N] the same, in a scale that does not saturate.
        rates: [C] share of wrong labels among those given as each class.
    """

    posterior: np.ndarray
    log_odds: np.ndarray
    rates: np.ndarray


def fit_noise_model(
    features: Features, given: np.ndarray, start: np.ndarray, *, classes: int, rounds: int = 3
) -> NoiseModel:
    """Learn from features alone which labels are wrong.

    Every feature enters twice: as its normal score over all rows (standard: it can be compared
    between classes) and within its given class (normalised: how unusual for that label). Only the
    first can tell that one class has more errors than another; only the second is not misled by a
    class that is hard as a whole. A mixture of two normals for each class follows, begun at
    `start`. The idea is that of the notes this project began with; form and numbers are ours.

    Args:
        features: Of N rows.
        given: [N] class numbers; -1 is unlabelled.
        start: [N] first guess of p(wrong) from a statistic with two heaps, such as
            `wrong_event_posterior`; ranks have no heaps that a mixture could find by itself. Where
            it is 0 for all rows, nothing stands out and the model says 0 for all.
        classes: C.
        rounds: Steps of the fit. Few are better: they combine the features in the direction that
            tells the two heaps apart, and further ones drift to whatever direction is widest.
    """
    known = (given >= 0) & ~np.isnan(start) & ~np.isnan(features.values).all(1)
    posterior, log_odds = np.full(len(given), np.nan), np.full(len(given), np.nan)
    rates = np.zeros(classes)
    if not known.any():
        return NoiseModel(posterior, log_odds, rates)
    label, values = given[known], features.values[known]
    z = np.concatenate([normalise(values), normalise_within(values, label)], axis=1)
    fit = fit_normal_groups(z, label, start[known], rounds=rounds)
    log_odds[known] = fit.log_odds
    posterior[known] = fit.posterior if start[known].any() else 0.0
    counts = np.bincount(label, minlength=classes)
    rates = np.bincount(label, posterior[known], classes) / np.maximum(counts, 1)
    return NoiseModel(posterior, log_odds, rates)


def class_transition(posterior: np.ndarray, given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Estimate T [C, C], T[i, j] = P(given j | true i), from what each row is thought to be.

    A row is of its given class with 1 - p(wrong), and of the others by the averaged prediction
    without the given class.

    Args:
        posterior: [N] p(wrong); rows of NaN do not count.
        given: [N] class numbers; rows of -1 do not count.
        probs: [N, C] averaged predictions.

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
        >>> class_transition(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 1]), probs).tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    known = (given >= 0) & ~np.isnan(posterior) & ~np.isnan(probs).any(1)
    wrong, label, classes = posterior[known], given[known], probs.shape[1]
    rows = np.arange(len(label))
    belief = probs[known].astype(np.float64)
    belief[rows, label] = 0
    belief *= (wrong / np.maximum(belief.sum(1), 1e-12))[:, None]
    belief[rows, label] = 1 - wrong
    joint = np.zeros((classes, classes))
    np.add.at(joint.T, label, belief)
    total = joint.sum(1, keepdims=True)
    return np.where(total > 0, joint / np.maximum(total, 1e-12), np.eye(classes))


def sample_transition(transition: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Give T(x) [n, C, C] of single rows: the class's errors, as likely as the row's own error.

    T(x) = (1 - p(x)) I + p(x) O, where O is T without its diagonal, rows summing to one: where an
    error of each class goes. A row that is surely right has the identity.

    Args:
        transition: T [C, C], rows summing to one.
        posterior: [n] p(wrong), 0 to 1.

    Example:
        >>> sample_transition(np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([0.1])).tolist()
        [[[0.9, 0.1], [0.1, 0.9]]]
    """
    classes = len(transition)
    errors = transition * (1 - np.eye(classes))
    total = errors.sum(1, keepdims=True)
    # A class without errors has to send them somewhere: evenly.
    even = (1 - np.eye(classes)) / max(classes - 1, 1)
    errors = np.where(total > 0, errors / np.maximum(total, 1e-12), even)
    share = np.asarray(posterior, dtype=np.float64)[:, None, None]
    return np.asarray((1 - share) * np.eye(classes) + share * errors)


@register_detector("noise_model")
@dataclass
class NoiseModelDetector(Detector):
    """Probability that a label is wrong, from all features of its trajectory at once.

    Begun at the wrong-event mixture of each class. Where the label is more likely wrong than not,
    the proposal is the best class of the averaged prediction other than the given one.

    Attributes:
        ensemble: Whether the uncertainties of a bootstrap ensemble are features too, where the
            ledger has them; ``noise_model_ensemble`` insists on them.
    """

    ensemble: bool = False

    reads = READS

    def score(self, ledger: Ledger) -> Scores:
        """Rank rows by the log-odds of the noise model."""
        self.check(ledger)
        given, classes = given_labels(ledger), len(ledger.classes)
        features = trajectory_features(ledger)
        both = self.ensemble and all(map(ledger.has, ENSEMBLE_READS))
        by = "its training and held-out nets" if both else "its whole training"
        if both:
            features = join_features(features, ensemble_features(ledger))
        events, views = column(ledger, "disagree_sum"), column(ledger, "times_seen")
        start = wrong_event_posterior(events, views, given)
        found = fit_noise_model(features, given, start, classes=classes)
        averaged = averaged_probs(ledger)
        assert averaged is not None
        probs = np.nan_to_num(averaged)
        others = probs.copy()
        others[np.arange(len(given)), np.maximum(given, 0)] = -1
        doubtful = np.nan_to_num(found.posterior) > 0.5
        proposed = np.where(doubtful, others.argmax(1), propose(probs, given))
        return Scores(
            rank_suspicion(found.log_odds.round(6)),
            proposed,
            lambda row: f"wrong with probability {found.posterior[row]:.2f} by {by}",
            "ensemble" if both else "trajectory",
            found.posterior,
        )


@register_detector("noise_model_ensemble")
@final
@dataclass
class NoiseModelWithEnsemble(NoiseModelDetector):
    """The noise model with the uncertainties of a bootstrap ensemble among its features.

    In our benchmark (``benchmarks/detectors.py``) they changed its AUROC by less than .002.
    """

    ensemble: bool = True

    reads = (*READS, *ENSEMBLE_READS)
