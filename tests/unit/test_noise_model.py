"""The noise model: two normals per class, transition matrices of classes and samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import simulate

from errata.detect import default_detectors, detector_named
from errata.detect.noise_model import (
    NoiseModelDetector,
    class_transition,
    fit_noise_model,
    fit_normal_groups,
    sample_transition,
)
from errata.detect.trajectory import (
    Features,
    ensemble_features,
    join_features,
    trajectory_features,
)
from errata.ledger import Ledger, standard
from errata.measures import auroc

CLASSES = 4
SHARES = np.array([0.0, 0.1, 0.3, 0.5])


def clouds(
    rows: int = 4000, *, apart: float = 4.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two features, classes with other shares of wrong rows, and which rows they are."""
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % CLASSES
    wrong = rng.random(rows) < SHARES[label]
    values = rng.normal(size=(rows, 2)) + apart * wrong[:, None] * [1.0, 0.5]
    return values, label, wrong


def test_two_normals_find_the_share_of_each_class():
    values, label, wrong = clouds()
    rough = np.where(values[:, 0] > 2, 0.99, 0.01)
    fit = fit_normal_groups(values, label, rough, rounds=20, ridge=0.01, borrow=1.0)
    assert fit.weights == pytest.approx(SHARES, abs=0.02)
    assert ((fit.posterior > 0.5) == wrong).mean() > 0.98


def test_two_normals_agree_with_the_linear_discriminant_of_scikit_learn():
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    values, _, wrong = clouds(1000, apart=2.0)
    theirs = analysis.LinearDiscriminantAnalysis(solver="lsqr").fit(values, wrong)
    one = np.zeros(1000, np.int64)
    mine = fit_normal_groups(values, one, wrong.astype(float), rounds=1, ridge=0.0, borrow=0.0)
    # One step from the truth itself is the supervised discriminant.
    np.testing.assert_allclose(mine.log_odds, theirs.decision_function(values), atol=1e-6)
    np.testing.assert_allclose(mine.posterior, theirs.predict_proba(values)[:, 1], atol=1e-9)


def test_a_class_of_few_rows_leans_on_the_others():
    values, _, wrong = clouds(1000)
    values = np.r_[values, [[0.0, 0.0], [4.0, 2.0]]]
    label = np.r_[np.zeros(1000, np.int64), 1, 1]
    rough = np.r_[np.where(wrong, 0.99, 0.01), 0.5, 0.5]
    fit = fit_normal_groups(values, label, rough)
    assert fit.posterior[-2] < 0.1
    assert fit.posterior[-1] > 0.9


def test_features_that_measure_the_same_do_no_harm():
    values, label, wrong = clouds()
    rough = np.where(values[:, 0] > 2, 0.99, 0.01)
    many = np.concatenate([values] * 6, axis=1)
    assert auroc(fit_normal_groups(many, label, rough).log_odds, wrong) > 0.98


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32))
def test_any_features_give_probabilities(rows: int, width: int, seed: int):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, width))
    values[rng.random(values.shape) < 0.2] = np.nan
    label = rng.integers(-1, 3, rows)
    start = np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows))
    names = tuple(str(f) for f in range(width))
    model = fit_noise_model(Features(names, values), label, start, classes=3)
    known = (label >= 0) & ~np.isnan(start) & ~np.isnan(values).all(1)
    assert (np.isnan(model.posterior) == ~known).all()
    assert ((model.posterior[known] >= 0) & (model.posterior[known] <= 1)).all()
    assert ((model.rates >= 0) & (model.rates <= 1)).all()


def test_where_nothing_stands_out_nobody_is_wrong():
    values, label, _ = clouds()
    model = fit_noise_model(Features(("a", "b"), values), label, np.zeros(4000), classes=CLASSES)
    assert (model.posterior == 0).all()
    assert (model.rates == 0).all()


def test_the_model_knows_that_classes_differ():
    values, label, wrong = clouds()
    start = np.where(values[:, 0] > 2, 0.99, 0.01)
    model = fit_noise_model(Features(("a", "b"), values), label, start, classes=CLASSES)
    # Ranks bring the two heaps nearer to each other, which costs a few points of the rate.
    assert model.rates == pytest.approx(SHARES, abs=0.06)
    assert auroc(model.log_odds, wrong) > 0.98


# Transition matrices.


def test_a_class_matrix_by_hand():
    # Four rows given class 1: one is of class 0 for sure, three are right; class 0 has one row.
    probs = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]])
    transition = class_transition(np.array([1.0, 0, 0, 0, 0]), np.array([1, 1, 1, 1, 0]), probs)
    assert transition == pytest.approx(np.array([[0.5, 0.5], [0.0, 1.0]]))


def test_a_class_nobody_is_of_has_no_errors():
    transition = class_transition(np.zeros(2), np.array([0, 1]), np.full((2, 3), 1 / 3))
    assert transition == pytest.approx(np.eye(3))


def test_rows_that_nothing_is_known_of_do_not_count():
    probs = np.array([[1.0, 0.0], [1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]])
    wrong, label = np.array([0.0, np.nan, 0.5, 0.0]), np.array([0, 1, 1, -1])
    assert class_transition(wrong, label, probs) == pytest.approx(np.eye(2))


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 2**32))
def test_rows_of_every_matrix_sum_to_one(rows: int, classes: int, seed: int):
    rng = np.random.default_rng(seed)
    wrong, label = rng.random(rows), rng.integers(0, classes, rows)
    transition = class_transition(wrong, label, rng.dirichlet(np.ones(classes), rows))
    assert transition.sum(1) == pytest.approx(np.ones(classes))
    own = sample_transition(transition, wrong)
    assert own.min() >= 0
    assert own.sum(2) == pytest.approx(np.ones((rows, classes)))
    for row in range(rows):
        assert np.diag(own[row]) == pytest.approx(np.full(classes, 1 - wrong[row]))


def test_errors_of_a_sample_go_where_those_of_its_class_go():
    transition = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    sure, doubtful = sample_transition(transition, np.array([0.0, 0.6]))
    assert sure == pytest.approx(np.eye(3))
    assert doubtful == pytest.approx(np.array([[0.4, 0.4, 0.2], [0.3, 0.4, 0.3], [0.6, 0.0, 0.4]]))


# The detector.


def ledger_with_an_ensemble(rows: int = 800) -> tuple[Ledger, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, rows)
    wrong = rng.random(rows) < 0.25
    shift = rng.integers(1, CLASSES, rows)
    given_labels = np.where(wrong, (truth + shift) % CLASSES, truth)
    ledger = simulate(truth, given_labels, CLASSES).ledger()
    held = 0.7 * np.eye(CLASSES)[truth] + 0.3 * rng.dirichlet(np.ones(CLASSES), rows)
    held[:10] = np.nan
    names = ("uncertainty", "aleatoric", "epistemic")
    ledger.add("bootstrap", standard("prob_oof", shape=(CLASSES,)), *map(standard, names))
    everyone = torch.arange(rows)
    ledger.write("prob_oof", everyone, torch.from_numpy(held), stamp=0)
    for name in names:
        values = np.where(np.arange(rows) < 10, np.nan, rng.random(rows))
        ledger.write(name, everyone, torch.from_numpy(values), stamp=0)
    return ledger, truth, wrong


def test_uncertainties_are_features_where_the_ledger_has_them():
    ledger, _, wrong = ledger_with_an_ensemble()
    without, together = (NoiseModelDetector(ensemble=e).score(ledger) for e in (False, True))
    assert (without.suspicion != together.suspicion).any()
    for scores in (without, together):
        assert not np.isnan(scores.suspicion).any(), "a row that every net saw is known otherwise"
        assert auroc(scores.suspicion, wrong) > 0.95
    features = ensemble_features(ledger)
    assert features.names == ("held_out_margin", "uncertainty", "aleatoric", "epistemic")
    assert np.isnan(features.values[:10]).all()
    joined = join_features(trajectory_features(ledger), features)
    assert joined.values.shape[1] == len(joined.names) == len(set(joined.names))


def test_where_the_label_is_wrong_the_best_other_class_is_proposed():
    ledger, truth, wrong = ledger_with_an_ensemble()
    scores = detector_named("noise_model").score(ledger)
    assert scores.values is not None
    doubtful = scores.values > 0.5
    assert (scores.proposed[doubtful] >= 0).all()
    assert (scores.proposed[doubtful & wrong] == truth[doubtful & wrong]).mean() > 0.95


def test_audits_ask_no_detector_of_this_kind_by_default():
    ledger, _, _ = ledger_with_an_ensemble()
    names = {detector.name for detector in default_detectors(ledger)}
    new = {"ctrl", "wrong_event", "cartography", "o2u", "arazo", "noise_model"}
    assert not names & new
