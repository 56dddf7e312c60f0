"""Measures have the values worked out by hand and those of scikit-learn, ties included."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from errata import measures

# Few distinct values, so that most draws hold ties.
scored = st.lists(st.tuples(st.integers(0, 6).map(lambda n: n / 4), st.booleans()), min_size=1)
both = scored.filter(lambda rows: len({positive for _, positive in rows}) == 2)


def split(rows):
    scores, positive = zip(*rows, strict=True)
    return np.array(scores, dtype=float), np.array(positive, dtype=bool)


@st.composite
def predictions(draw):
    rows, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Rounded to tenths before normalising, so that classes and rows tie.
    table = rng.random((rows, classes)).round(1) + 0.1
    return table / table.sum(1, keepdims=True), rng.integers(0, classes, rows)


PROBS = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]])
LABELS = np.array([0, 1, 1, 2])


def test_auroc_counts_ties_half():
    assert measures.auroc([1, 2, 2, 3], [False, False, True, True]) == 3.5 / 4


def test_average_precision_takes_tied_rows_together():
    # One row at 3 (positive), then three at 2 with one positive: 1/2 * 1 + 1/2 * 2/4.
    assert measures.average_precision([2, 3, 2, 2], [1, 1, 0, 0]) == 0.75


def test_oracle_f1_takes_tied_rows_together():
    # Thresholds 3: P 1, R 1/2, F1 2/3. Threshold 2: P 2/4, R 1, F1 2/3. Apart it would be 1.
    assert measures.oracle_f1([2, 3, 2, 2], [1, 1, 0, 0]) == pytest.approx(2 / 3)


def test_fnr_at_rate_flags_as_many_rows_as_are_positive_ties_in_row_order():
    assert measures.fnr_at_rate([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == 0.0
    assert measures.fnr_at_rate([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0]) == 0.5


def test_precision_recall_f1_by_hand():
    flagged, positive = [1, 1, 1, 0, 0], [1, 0, 0, 1, 0]
    assert measures.precision_recall_f1(flagged, positive) == pytest.approx((1 / 3, 0.5, 0.4))


def test_precision_of_nothing_flagged_is_zero():
    assert measures.precision_recall_f1([0, 0], [1, 0]) == (0.0, 0.0, 0.0)
    assert measures.precision_recall_f1([0, 0], [0, 0]) == (0.0, 0.0, 0.0)


def test_infinite_scores_are_ranked():
    scores = [math.inf, math.inf, 0.0, -math.inf]
    assert measures.auroc(scores, [1, 0, 0, 0]) == pytest.approx(2.5 / 3)
    assert measures.average_precision(scores, [1, 0, 0, 0]) == 0.5


def test_accuracy_and_recall_by_hand():
    assert measures.accuracy(PROBS, LABELS) == 0.5
    assert measures.per_class_recall(PROBS, LABELS).tolist() == [1.0, 0.5, 0.0]
    assert measures.balanced_accuracy(PROBS, LABELS) == 0.5


def test_class_without_rows_has_no_recall_and_is_left_out_of_the_mean():
    recall = measures.per_class_recall(PROBS[:2], LABELS[:2])
    assert recall[:2].tolist() == [1.0, 1.0]
    assert math.isnan(recall[2])
    assert measures.balanced_accuracy(PROBS[:2], LABELS[:2]) == 1.0


def test_top_k_accuracy_by_hand():
    assert measures.top_k_accuracy(PROBS, LABELS, k=2) == 0.75
    assert measures.top_k_accuracy(PROBS, LABELS, k=9) == 1.0


def test_nll_is_clipped():
    assert measures.nll([[0.0, 1.0]], [0]) == pytest.approx(-math.log(1e-12))
    assert measures.nll(PROBS, LABELS) == pytest.approx(-math.log(0.7 * 0.4 * 0.3 * 0.2) / 4)


def test_brier_sums_over_classes():
    assert measures.brier([[0.0, 1.0]], [0]) == 2.0
    assert measures.brier([[0.7, 0.2, 0.1]], [0]) == pytest.approx(0.09 + 0.04 + 0.01)


def test_ece_by_hand_in_bins_of_equal_mass():
    # Confidences 0.4 (right), 0.5 (wrong) | 0.6 (wrong), 0.7 (right).
    assert measures.ece(PROBS, LABELS, bins=2) == pytest.approx((0.1 + 0.3) / 4)
    assert measures.ece(PROBS, LABELS, bins=1) == pytest.approx(0.2 / 4)
    # More bins than rows: each row alone.
    assert measures.ece(PROBS, LABELS) == pytest.approx((0.6 + 0.5 + 0.6 + 0.3) / 4)


def test_aurc_by_hand():
    # Surest first: right, wrong, wrong, right.
    assert measures.aurc(PROBS, LABELS) == pytest.approx((0 + 1 / 2 + 2 / 3 + 2 / 4) / 4)


def test_aurc_takes_ties_in_row_order():
    even = np.full((2, 2), 0.5)
    assert measures.aurc(even, [0, 1]) == pytest.approx((0 + 1 / 2) / 2)
    assert measures.aurc(even, [1, 0]) == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_auroc_of_one_kind_of_row_is_undefined(positive):
    assert math.isnan(measures.auroc([0.1, 0.2], positive))


def test_measures_without_positives_are_undefined():
    for measure in (measures.average_precision, measures.oracle_f1, measures.fnr_at_rate):
        assert math.isnan(measure([0.1, 0.2], [False, False]))


def test_measures_of_no_rows_are_undefined():
    probs, labels = np.empty((0, 3)), np.empty(0, dtype=int)
    for name in ("accuracy", "balanced_accuracy", "nll", "brier", "ece", "aurc", "top_k_accuracy"):
        assert math.isnan(getattr(measures, name)(probs, labels)), name
    for name in ("auroc", "average_precision", "oracle_f1", "fnr_at_rate"):
        assert math.isnan(getattr(measures, name)([], [])), name


@pytest.mark.parametrize("name", ["auroc", "average_precision", "oracle_f1", "fnr_at_rate"])
def test_scores_that_are_not_numbers_are_a_programming_error(name):
    with pytest.raises(AssertionError, match="NaN"):
        getattr(measures, name)([0.1, math.nan], [True, False])


@pytest.mark.parametrize("name", ["accuracy", "nll", "brier", "ece", "aurc"])
def test_probabilities_that_are_not_numbers_are_a_programming_error(name):
    with pytest.raises(AssertionError, match="NaN"):
        getattr(measures, name)([[0.1, math.nan]], [0])


@pytest.mark.parametrize("labels", [[0, 3], [0, -1], [0]])
def test_labels_that_do_not_fit_are_a_programming_error(labels):
    with pytest.raises(AssertionError):
        measures.nll(PROBS[:2], labels)


@given(both)
def test_auroc_agrees_with_scikit_learn(rows):
    scores, positive = split(rows)
    assert measures.auroc(scores, positive) == pytest.approx(
        metrics.roc_auc_score(positive, scores)
    )


@given(both)
def test_auroc_of_opposite_scores_is_the_complement(rows):
    scores, positive = split(rows)
    opposite = measures.auroc(-scores, positive)
    assert measures.auroc(scores, positive) == pytest.approx(1 - opposite)


@given(both)
def test_average_precision_agrees_with_scikit_learn(rows):
    scores, positive = split(rows)
    assert measures.average_precision(scores, positive) == pytest.approx(
        metrics.average_precision_score(positive, scores)
    )


@given(both)
def test_oracle_f1_is_the_best_over_scikit_learns_thresholds(rows):
    scores, positive = split(rows)
    best = max(metrics.f1_score(positive, scores >= cut) for cut in np.unique(scores))
    assert measures.oracle_f1(scores, positive) == pytest.approx(best)


@given(both)
def test_fnr_at_rate_is_one_minus_the_recall_of_the_top_rows(rows):
    scores, positive = split(rows)
    ranked = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    flagged = np.isin(np.arange(len(scores)), ranked[: positive.sum()])
    expected = 1 - metrics.recall_score(positive, flagged)
    assert measures.fnr_at_rate(scores, positive) == pytest.approx(expected)


@given(scored)
def test_precision_recall_f1_agree_with_scikit_learn(rows):
    scores, positive = split(rows)
    flagged = scores > 0.5
    *expected, _ = metrics.precision_recall_fscore_support(
        positive, flagged, average="binary", zero_division=0
    )
    assert measures.precision_recall_f1(flagged, positive) == pytest.approx(expected)


@settings(max_examples=50)
@given(predictions())
def test_accuracies_agree_with_scikit_learn(drawn):
    probs, labels = drawn
    classes = np.arange(probs.shape[1])
    best = probs.argmax(1)
    with warnings.catch_warnings():
        # scikit-learn warns where a predicted class has no rows; ours leaves it out likewise.
        warnings.simplefilter("ignore")
        balanced = metrics.balanced_accuracy_score(labels, best)
    recall = metrics.recall_score(labels, best, labels=classes, average=None, zero_division=np.nan)
    assert measures.accuracy(probs, labels) == pytest.approx(metrics.accuracy_score(labels, best))
    assert measures.balanced_accuracy(probs, labels) == pytest.approx(balanced)
    np.testing.assert_allclose(measures.per_class_recall(probs, labels), recall)


@settings(max_examples=50)
@given(predictions().filter(lambda drawn: drawn[0].shape[1] > 2), st.integers(1, 2))
def test_top_k_accuracy_agrees_with_scikit_learn(drawn, k):
    probs, labels = drawn
    expected = metrics.top_k_accuracy_score(labels, probs, k=k, labels=np.arange(probs.shape[1]))
    assert measures.top_k_accuracy(probs, labels, k=k) == pytest.approx(expected)


@settings(max_examples=50)
@given(predictions())
def test_nll_and_brier_agree_with_scikit_learn(drawn):
    probs, labels = drawn
    classes = np.arange(probs.shape[1])
    assert measures.nll(probs, labels) == pytest.approx(
        metrics.log_loss(labels, probs, labels=classes)
    )
    one_hot = np.eye(len(classes))[labels]
    assert measures.brier(probs, labels) == pytest.approx(((probs - one_hot) ** 2).sum(1).mean())


@settings(max_examples=50)
@given(predictions(), st.integers(1, 20))
def test_ece_and_aurc_agree_with_slow_loops(drawn, bins):
    probs, labels = drawn
    rows = sorted(range(len(labels)), key=lambda row: probs[row].max())
    gap = 0.0
    for part in np.array_split(rows, bins):
        right = sum(int(probs[row].argmax() == labels[row]) for row in part)
        gap += abs(sum(probs[row].max() for row in part) - right)
    assert measures.ece(probs, labels, bins=bins) == pytest.approx(gap / len(labels))
    surest = sorted(range(len(labels)), key=lambda row: -probs[row].max())
    risks = [
        np.mean([probs[r].argmax() != labels[r] for r in surest[: k + 1]]) for k in range(len(rows))
    ]
    assert measures.aurc(probs, labels) == pytest.approx(np.mean(risks))
