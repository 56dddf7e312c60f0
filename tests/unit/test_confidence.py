"""Temperatures and conformal sets: exact where they can be, and right under planted noise."""

from __future__ import annotations

import numpy as np
import pytest

from errata.confidence import (
    adaptive_scores,
    conformal_threshold,
    fit_temperature,
    fit_uniform_noise,
    plain_scores,
    scale,
    selective_threshold,
    uniform_transition,
)

CLASSES = 5
PAIRS = np.eye(CLASSES) * 0.7 + np.roll(np.eye(CLASSES), 1, axis=1) * 0.3


def draw(rows: int, seed: int = 0, *, spread: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw calibrated logits and the true labels they speak of."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, spread, (rows, CLASSES))
    labels = (rng.random(rows)[:, None] > scale(logits, 1.0).cumsum(1)).sum(1)
    return logits, labels.clip(max=CLASSES - 1)


def flip(labels: np.ndarray, transition: np.ndarray, seed: int = 1) -> np.ndarray:
    """Plant class-dependent noise."""
    rng = np.random.default_rng(seed)
    return (rng.random(len(labels))[:, None] > transition[labels].cumsum(1)).sum(1)


def test_a_temperature_of_two_halves_the_logits():
    logits = np.array([[2.0, 0.0, -2.0]])
    assert scale(logits, 2.0) == pytest.approx(scale(logits / 2, 1.0))
    assert scale(np.array([[1e4, 0.0]]), 1.0).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true: float):
    logits, labels = draw(6_000)
    assert fit_temperature(logits * true, labels) == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("transition", [uniform_transition(0.4, CLASSES), PAIRS])
def test_known_noise_leaves_the_temperature_as_it_is(transition: np.ndarray):
    logits, labels = draw(6_000)
    given = flip(labels, transition)
    assert fit_temperature(logits, given, transition=transition) == pytest.approx(1.0, rel=0.06)
    # What the noise does where it is ignored.
    assert fit_temperature(logits, given) > 1.5


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_rate_and_temperature_are_found_together(rate: float):
    logits, labels = draw(6_000, spread=6.0)
    given = flip(labels, uniform_transition(rate, CLASSES))
    temperature, found = fit_uniform_noise(2 * logits, given)
    assert found == pytest.approx(rate, abs=0.03)
    assert temperature == pytest.approx(2.0, rel=0.08)


def test_adaptive_scores_sum_what_is_at_least_as_likely():
    scores = adaptive_scores(np.array([[0.1, 0.6, 0.3], [1.0, 0.0, 0.0]]))
    assert scores == pytest.approx(np.array([[1.0, 0.6, 0.9], [1.0, 1.0, 1.0]]))


def test_the_threshold_on_right_labels_is_the_corrected_quantile():
    scores = np.tile(np.arange(1.0, 10.0)[:, None], (1, 2))
    labels = np.zeros(9, dtype=int)
    # Of nine rows the ceil(10 * .8) = 8th; .95 would be the tenth, which there is not.
    assert conformal_threshold(scores, labels, coverage=0.8) == 8.0
    assert conformal_threshold(scores, labels, coverage=0.95) == float("inf")


def test_no_noise_given_as_a_matrix_is_no_noise():
    logits, labels = draw(500)
    scores = plain_scores(scale(logits, 1.0))
    for coverage in (0.5, 0.8, 0.9):
        plain = conformal_threshold(scores, labels, coverage=coverage)
        through = conformal_threshold(scores, labels, coverage=coverage, transition=np.eye(CLASSES))
        assert through == pytest.approx(plain)


def test_uniform_noise_is_corrected_as_published():
    """F_clean = (F_noisy - e mean_k F_k) / (1 - e), at every threshold."""
    logits, labels = draw(400)
    rate = 0.3
    transition = uniform_transition(rate, CLASSES)
    given = flip(labels, transition)
    scores = plain_scores(scale(logits, 1.0))
    threshold = conformal_threshold(scores, given, coverage=0.8, transition=transition)
    below = scores <= threshold
    noisy = below[np.arange(400), given].mean()
    clean = (noisy - rate * below.mean()) / (1 - rate)
    assert clean >= 0.8
    lower = scores < threshold
    before = (lower[np.arange(400), given].mean() - rate * lower.mean()) / (1 - rate)
    assert before < 0.8 * 401 / 400


@pytest.mark.parametrize("transition", [uniform_transition(0.4, CLASSES), PAIRS])
@pytest.mark.parametrize("score", [plain_scores, adaptive_scores])
def test_sets_cover_what_was_asked_for_and_are_small(transition: np.ndarray, score: object):
    assert callable(score)
    fresh, true = draw(6_000, seed=9)
    rows = np.arange(len(true))
    covered, sizes, ignoring = [], [], []
    for seed in range(20):
        logits, labels = draw(1_500, seed=seed + 10)
        given = flip(labels, transition, seed=seed + 50)
        scores, others = score(scale(logits, 1.0)), score(scale(fresh, 1.0))
        sets = others <= conformal_threshold(scores, given, transition=transition)
        covered.append(sets[rows, true].mean())
        sizes.append(sets.sum(1).mean())
        ignoring.append((others <= conformal_threshold(scores, given)).sum(1).mean())
        if seed == 0:
            clean = (others <= conformal_threshold(scores, labels)).sum(1).mean()
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)
    assert np.mean(sizes) <= 1.1 * clean
    assert np.mean(ignoring) > 1.5 * clean


def test_answers_above_the_threshold_are_as_right_as_asked():
    logits, labels = draw(20_000, spread=3.0)
    given = flip(labels, PAIRS)
    probs = scale(logits, 1.0)
    threshold = selective_threshold(probs, given, risk=0.05, transition=PAIRS)
    answered = probs.max(1) >= threshold
    wrong = (probs.argmax(1) != labels)[answered].mean()
    assert 0.01 < wrong <= 0.05
    assert 0.05 < answered.mean() < 0.95
    # Three labels in ten are wrong, so that no answer at all seems to be sure enough.
    assert selective_threshold(probs, given, risk=0.05) == float("inf")
