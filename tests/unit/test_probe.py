"""The probe: predictions that leave a row's own label out, and the odds that follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import simulate

from errata.detect import consensus, default_detectors, detector_named
from errata.detect.base import Scores
from errata.detect.label_flow import fit_even_flow, fit_flow, wrong_odds
from errata.detect.probe import leave_one_out, memorised_share
from errata.ledger import Ledger
from errata.measures import auroc

NAN = math.nan
CLASSES = 4


def clusters(rows: int, *, wrong: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Make features [N, 6] around four corners, true classes [N] and given ones [N]."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, rows)
    features = rng.normal(0, 0.8, (rows, 6))
    features[np.arange(rows), truth] += 3
    shift = np.where(rng.random(rows) < wrong, rng.integers(1, CLASSES, rows), 0)
    return features, truth, (truth + shift) % CLASSES


def refitted(features: np.ndarray, labels: np.ndarray, row: int, ridge: float) -> np.ndarray:
    """Fit without one row, in the units and with the weights of all rows, and predict it."""
    scaled = (features - features.mean(0)) / np.sqrt(features.var(0).mean())
    table = np.c_[scaled, np.ones(len(scaled))]
    weight = (len(labels) / CLASSES / np.bincount(labels, minlength=CLASSES))[labels]
    weight[row] = 0
    penalty = np.diag([*[ridge] * features.shape[1], 1e-6])
    weighted = table.T * weight
    fit = np.linalg.solve(weighted @ table + penalty, weighted @ np.eye(CLASSES)[labels])
    return np.asarray(table[row] @ fit)


# Predictions without the own label.


@pytest.mark.parametrize("ridge", [0.5, 100.0])
def test_leaving_one_out_is_fitting_again_without_the_row(ridge: float):
    features, _, labels = clusters(60, wrong=0.3)
    found = leave_one_out(features, labels, classes=CLASSES, ridge=ridge)
    for row in (0, 17, 59):
        assert found[row] == pytest.approx(refitted(features, labels, row, ridge), abs=1e-9)


def test_two_pairs_of_points_vote_for_each_other():
    points = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    found = leave_one_out(points, np.array([0, 1, 1, 1]), classes=2, ridge=1e-9)
    # What is left beside row 0 is of class 1 alone.
    assert found[0].tolist() == pytest.approx([0, 1], abs=1e-6)
    # Beside row 1, on its side, is row 0 alone, which has the other label.
    assert found[1].tolist() == pytest.approx([1, 0], abs=1e-6)


@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_unit_zero_and_order_of_features_and_rows_do_not_matter(
    unit: float, zero: float, seed: int
):
    features, _, labels = clusters(80, wrong=0.2)
    order = np.random.default_rng(seed).permutation(80)
    found = leave_one_out(features, labels, classes=CLASSES)
    again = leave_one_out(unit * features[order] + zero, labels[order], classes=CLASSES)
    np.testing.assert_allclose(again, found[order], atol=1e-6)


def test_unlabelled_rows_are_predicted_and_teach_nothing():
    features, truth, labels = clusters(200, wrong=0.0)
    labels[:20] = -1
    found = leave_one_out(features, labels, classes=CLASSES, ridge=1.0)
    assert (found[:20].argmax(1) == truth[:20]).mean() > 0.9
    without = leave_one_out(features[20:], labels[20:], classes=CLASSES, ridge=1.0)
    np.testing.assert_allclose(found[20:], without, atol=1e-9)


def test_rows_without_finite_features_are_unknown_and_teach_nothing():
    features, _, labels = clusters(100, wrong=0.1)
    features[3] = NAN
    features[4, 0] = math.inf
    found = leave_one_out(features, labels, classes=CLASSES)
    assert np.isnan(found[3:5]).all()
    rest = np.delete(np.arange(100), [3, 4])
    again = leave_one_out(features[rest], labels[rest], classes=CLASSES)
    np.testing.assert_allclose(found[rest], again, atol=1e-12)


def test_a_class_of_one_row_and_constant_features_give_no_error():
    labels = np.array([0, 0, 0, 1])
    found = leave_one_out(np.ones((4, 2)), labels, classes=3)
    assert np.isfinite(found).all()
    assert np.isnan(leave_one_out(np.ones((1, 2)), labels[:1], classes=3)).all()


# What was memorised.


@pytest.mark.parametrize(
    ("late_wrong", "share"), [(8, 0.0), (6, 0.0), (5, 0.5), (4, 1.0), (0, 1.0)]
)
def test_the_memorised_share_falls_with_the_disagreement_that_is_left(
    late_wrong: int, share: float
):
    labels = np.zeros(20, dtype=np.int64)
    early, late = (
        np.eye(2)[[1] * 10 + [0] * 10],
        np.eye(2)[[1] * late_wrong + [0] * (20 - late_wrong)],
    )
    assert memorised_share(early, late, labels) == pytest.approx(share)


def test_nothing_is_memorised_where_nothing_is_known():
    assert memorised_share(np.full((3, 2), NAN), np.eye(2)[[0, 0, 0]], np.zeros(3, np.int64)) == 0
    assert memorised_share(np.eye(2)[[0, 0]], np.eye(2)[[0, 0]], np.zeros(2, np.int64)) == 0


# The flow of labels.


def drawn(flow: np.ndarray, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw true classes [N], and labels [N] by T."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(flow), rows)
    return truth, (rng.random(rows)[:, None] > flow.cumsum(1)[truth]).sum(1)


def test_a_free_flow_is_found_from_sharp_evidence():
    flow = np.array([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])
    truth, labels = drawn(flow, 6000)
    found = fit_flow(6 * np.eye(3)[truth], labels).transition
    assert found == pytest.approx(flow, abs=0.03)
    assert found.sum(1) == pytest.approx(np.ones(3))


def test_an_even_flow_is_found_from_sharp_evidence():
    flow = 0.7 * np.eye(4) + 0.3 / 4
    truth, labels = drawn(flow, 6000)
    evidence = 6 * np.eye(4)[truth]
    even, free = fit_even_flow(evidence, labels), fit_flow(evidence, labels)
    # A little less sure of classes, and fewer errors, is about as likely.
    assert even.transition == pytest.approx(flow, abs=0.03)
    # More entries fit better, but here by less than Akaike asks for.
    assert 0 < (free.likelihood - even.likelihood) * 6000 < 12


def test_a_second_best_label_is_right_unless_labels_flow_there():
    truth, labels = drawn(np.array([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), 6000)
    evidence = 5 * np.eye(3)[truth]
    # Two rows between the classes, each with the label of the weaker one.
    evidence[0], labels[0] = [5.0, 4.0, 0.0], 1
    evidence[1], labels[1] = [4.0, 0.0, 5.0], 0
    odds = wrong_odds(evidence, labels)
    assert odds[0] > 0 > odds[1]


def test_classes_that_are_alike_are_no_flow():
    truth, labels = drawn(0.9 * np.eye(3) + 0.1 / 3, 3000)
    evidence = 4 * np.eye(3)[truth]
    odds = wrong_odds(evidence, labels)
    even = fit_even_flow(evidence, labels)
    logs = even.sharpness * evidence + np.log(even.transition[:, labels].T)
    chances = np.exp(logs - logs.max(1, keepdims=True))
    own = chances[np.arange(3000), labels] / chances.sum(1)
    np.testing.assert_allclose(odds, np.log(1 - own) - np.log(own), atol=1e-6)


def test_errors_of_many_classes_are_taken_to_be_even():
    truth, labels = drawn(np.roll(np.eye(101), 1, axis=1) * 0.4 + np.eye(101) * 0.6, 2000)
    odds = wrong_odds(5 * np.eye(101)[truth], labels)
    assert auroc(odds, truth != labels) == 1
    assert len(np.unique(odds.round(6))) == 2


def test_rows_without_label_or_evidence_have_no_odds():
    evidence = np.array([[1.0, 0.0], [NAN, NAN], [0.0, 1.0]])
    odds = wrong_odds(evidence, np.array([0, 0, -1]))
    assert np.isnan(odds).tolist() == [False, True, True]
    assert np.isnan(wrong_odds(evidence[1:], np.array([0, -1]))).all()


# The detector, and its place.


def simulated(*, memory: float, seed: int = 0) -> tuple[Ledger, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, 600)
    wrong = rng.random(600) < 0.3
    labels = np.where(wrong, (truth + 1) % CLASSES, truth)
    return simulate(truth, labels, CLASSES, memory=memory, seed=seed).ledger(), wrong, truth


@pytest.mark.parametrize("memory", [1.0, 30.0])
def test_the_probe_finds_errors_whether_they_are_memorised_or_not(memory: float):
    ledger, wrong, truth = simulated(memory=memory)
    scores = detector_named("probe").score(ledger)
    assert auroc(scores.suspicion, wrong) > 0.97
    assert (scores.proposed[wrong] == truth[wrong]).mean() > 0.85
    assert (scores.proposed[~wrong] == -1).mean() > 0.9


def test_a_row_that_left_early_is_judged_by_early_features():
    ledger, _, _ = simulated(memory=1.0)
    views = ledger.read("feature_views")
    rows = torch.tensor([5])
    gone = torch.tensor([[0, -int(views[5, 1])]])
    ledger.write("feature_views", rows, gone, stamp=1)
    scores = detector_named("probe").score(ledger)
    assert not np.isnan(scores.suspicion[5])


def scored(kind: str, suspicion: list[float], proposed: list[int]) -> Scores:
    return Scores(
        np.array(suspicion), np.array(proposed), lambda _: kind, kind, np.array(suspicion)
    )


def test_the_probe_leads_the_consensus_and_the_rest_fills_in():
    leader = scored("alike", [0.9, 0.5, 0.1, NAN], [1, -1, -1, -1])
    others = [scored(kind, [0.1, 0.5, 0.5, 0.9], [2, 2, 2, 2]) for kind in ("loss", "margin")]
    joined = consensus([*others, leader])
    assert joined.suspicion[:3].tolist() == sorted(joined.suspicion[:3], reverse=True)
    assert joined.proposed.tolist() == [1, -1, -1, 2]
    assert joined.suspicion[3] > joined.suspicion[1]


def test_features_of_somebody_elses_model_have_a_say_beside_the_probe():
    leader = scored("alike", [0.2, 0.5, 0.8], [-1, -1, -1])
    other = scored("neighbours", [0.2, 0.9, 0.6], [-1, -1, -1])
    alone, both = consensus([leader]).values, consensus([leader, other]).values
    assert alone is not None
    assert both is not None
    assert both[1] - both[0] > alone[1] - alone[0]


def test_an_audit_asks_the_probe_where_the_ledger_has_features():
    ledger, _, _ = simulated(memory=1.0)
    assert "probe" in {detector.name for detector in default_detectors(ledger)}
    bare = Ledger(ledger.ids, ledger.given, ledger.classes)
    assert "probe" not in {detector.name for detector in default_detectors(bare)}
