"""How many labels are wrong: estimates against the truth of planted noise.

Tolerances are those of 3,000 rows: about three times the sampling error of the estimate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ledgers import simulate, train

from errata.data import flips
from errata.detect import consensus, decide, default_detectors, estimate_rate
from errata.detect.groups import resolved_share, wrong_groups
from errata.detect.rate import Opinion, disagreement, margin_opinions, pooled
from errata.errors import LedgerError
from errata.ledger import Ledger, standard
from errata.measures import auroc, precision_recall_f1

CLASSES = 6


def truth_of(rows: int = 3000) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, rows)


def other(truth: np.ndarray, rate: float) -> np.ndarray:
    return flips.flip_other(truth, rate, CLASSES, np.random.default_rng(2))


# Single opinions.


def test_rows_that_agree_do_not_count_and_those_that_waver_count_little():
    probs = np.array([[0.9, 0.1], [0.45, 0.55], [0.0, 1.0], [np.nan, np.nan], [0.0, 1.0]])
    doubts = disagreement(probs, np.array([0, 0, 0, 0, -1]))
    np.testing.assert_allclose(doubts, [0, 1 - 0.45 / 0.55, 1, np.nan, np.nan])


def opinion(rate: float, doubt: float = 0.0, **rest: Any) -> Opinion:
    return Opinion(rate, doubt, np.full(1000, rate), **rest)


def test_a_single_sure_opinion_leaves_chance_and_the_error_of_the_model():
    found, scale = pooled([opinion(0.2)], 1000)
    assert found.estimate == 0.2
    assert scale == pytest.approx(np.sqrt(0.2 * 0.8 / 1000 + 0.01**2))
    assert found.high - found.estimate == pytest.approx(1.5 * (scale + 0.003))
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)
    np.testing.assert_allclose(found.posterior, 0.2)


def test_opinions_count_by_weight_and_hold_the_interval_open_where_they_differ():
    found, scale = pooled([opinion(0.1, weight=3.0), opinion(0.3)], 1000)
    assert found.estimate == pytest.approx(0.15)
    assert scale > np.sqrt(0.75 * 0.05**2 + 0.25 * 0.15**2)
    assert found.low < 0.1


def test_the_same_opinion_twice_makes_the_mean_no_surer():
    one, two = (pooled([opinion(0.2, 0.03)] * k, 1000)[0] for k in (1, 2))
    assert (one.low, one.high) == pytest.approx((two.low, two.high))


def test_rows_that_may_only_be_hard_widen_the_upper_end_alone():
    plain, hard = (pooled([opinion(0.1, hard=h)], 1000)[0] for h in (0.0, 0.2))
    assert hard.low == plain.low
    assert hard.high == pytest.approx(plain.high + 0.2)


def test_a_clear_group_below_zero_is_the_rate():
    rng = np.random.default_rng(0)
    margins = np.r_[rng.normal(3, 1, 2250), rng.normal(-2, 1, 750)]
    opinions = margin_opinions(margins, rng.permutation(np.arange(3000) % 3))
    found, scale = pooled(opinions, 3000)
    assert found.estimate == pytest.approx(0.25, abs=0.015)
    assert scale < 0.03
    assert all(each.hard == 0 for each in opinions)
    assert found.posterior[:2250].mean() < 0.02 < 0.95 < found.posterior[2250:].mean()


def test_the_tail_of_hard_rows_is_no_group():
    rng = np.random.default_rng(0)
    margins = np.log(rng.gamma(1.5, 2, 4000)) * 2
    below = (margins < 0).mean()
    assert below > 0.1
    found, _ = pooled(margin_opinions(margins, np.zeros(4000, np.int64)), 4000)
    assert found.estimate < 0.02
    assert found.high > below / 2


def test_too_few_rows_make_no_group():
    assert wrong_groups(np.zeros(59), np.zeros(59, np.int64)) == []
    assert margin_opinions(np.zeros(59), np.zeros(59, np.int64)) == []


def test_small_classes_are_grouped_together():
    rng = np.random.default_rng(0)
    given = np.r_[np.zeros(400, np.int64), np.arange(1, 51).repeat(4)]
    margins = np.where(rng.random(600) < 0.3, rng.normal(-3, 1, 600), rng.normal(3, 1, 600))
    found, _ = pooled(margin_opinions(margins, given), 600)
    assert found.estimate == pytest.approx((margins < 0).mean(), abs=0.03)


def test_more_overlap_never_counts_as_better_resolved():
    shares = [resolved_share(0.2, overlap) for overlap in np.linspace(0, 0.2, 30)]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert (np.diff(shares) <= 0).all()


# The estimate that chooses.


@pytest.mark.parametrize(("rate", "memory"), [(0.1, 0.5), (0.2, 3.0), (0.4, 2.0)])
def test_random_errors_are_counted_whatever_training_memorises(rate: float, memory: float):
    truth = truth_of()
    given = other(truth, rate)
    found = estimate_rate(simulate(truth, given, CLASSES, memory=memory).ledger())
    assert found.estimate == pytest.approx(rate, abs=0.035)
    assert found.low <= rate <= found.high
    assert found.high - found.low < 0.16


@pytest.mark.parametrize("memory", [0.5, 3.0])
def test_clean_labels_are_called_clean(memory: float):
    truth = truth_of()
    found = estimate_rate(simulate(truth, truth, CLASSES, memory=memory).ledger())
    assert found.estimate < 0.01
    assert found.low == 0
    assert found.high < 0.05


def test_pairwise_errors_are_counted():
    truth = truth_of()
    mapping = (np.arange(CLASSES) + 1) % CLASSES
    given = flips.flip_by_map(truth, mapping, 0.3, np.random.default_rng(0))
    found = estimate_rate(simulate(truth, given, CLASSES).ledger())
    assert found.estimate == pytest.approx(0.3, abs=0.03)
    assert found.low <= 0.3 <= found.high


def test_rows_that_left_training_early_do_not_spoil_the_null():
    truth = truth_of()
    given = other(truth, 0.3)
    recorder = simulate(truth, given, CLASSES)
    gone = np.random.default_rng(0).random(len(truth)) < np.where(given != truth, 0.9, 0.02)
    found = estimate_rate(recorder.ledger(dropped=gone))
    assert found.estimate == pytest.approx(0.3, abs=0.035)
    # The null is what the dropped rows say, and with few of them its fit is unsure.
    assert found.high - found.low < 0.16


def test_an_unsure_null_leaves_the_groups_in_charge(monkeypatch: pytest.MonkeyPatch):
    truth = truth_of(1000)
    ledger = simulate(truth, other(truth, 0.2), CLASSES).ledger()

    def beside(null: Opinion | None) -> float:
        monkeypatch.setattr("errata.detect.rate._from_null", lambda ledger: null)
        return estimate_rate(ledger).estimate

    groups = beside(None)
    everyone = np.full(1000, 0.6)
    assert beside(Opinion(0.6, 1.0, everyone)) == pytest.approx(groups, abs=0.01)
    assert beside(Opinion(0.6, 1e-4, everyone)) == pytest.approx(0.6, abs=0.01)
    assert beside(Opinion(0.6, 1e-4, everyone, weight=0.5)) == pytest.approx(
        (groups + 0.6) / 2, abs=0.01
    )


def test_held_out_probabilities_alone_are_enough():
    rng = np.random.default_rng(0)
    truth = truth_of()
    given = other(truth, 0.2)
    logits = rng.normal(0, 1, (3000, CLASSES))
    logits[np.arange(3000), truth] += rng.gamma(4, 1.2, 3000)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ledger = Ledger([str(i) for i in range(3000)], given, [str(c) for c in range(CLASSES)])
    ledger.add("audit", standard("prob_oof", shape=(CLASSES,)))
    ledger.write("prob_oof", torch.arange(3000), torch.from_numpy(probs), stamp=0)
    found = estimate_rate(ledger)
    assert found.estimate == pytest.approx(0.2, abs=0.04)
    assert found.low <= 0.2 <= found.high


def test_the_same_ledger_gives_the_same_estimate():
    truth = truth_of(800)
    recorder = simulate(truth, other(truth, 0.2), CLASSES)
    one, two = (estimate_rate(recorder.ledger()) for _ in range(2))
    assert (one.estimate, one.low, one.high) == (two.estimate, two.low, two.high)


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_few_rows_give_a_wide_interval_rather_than_a_failure(rows: int):
    truth = truth_of(rows)
    found = estimate_rate(simulate(truth, truth, CLASSES).ledger())
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.high >= min(1.0, 3 / rows)


def test_an_empty_ledger_is_refused():
    ledger = Ledger(["a"], np.zeros(1, np.int64), ["a", "b"])
    with pytest.raises(LedgerError, match="neither margins nor predictions"):
        estimate_rate(ledger)


# A small real training.


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    return data.data / 16, data.target.astype(np.int64)


def test_real_digits_with_random_errors(digits: tuple[np.ndarray, np.ndarray]):
    x, truth = digits
    given = flips.redraw_uniform(truth, 0.4, 10, np.random.default_rng(0))
    wrong = given != truth
    ledger = train(x, given, 10)
    scores = [detector.score(ledger) for detector in default_detectors(ledger)]
    joined = consensus(scores)
    rate = estimate_rate(ledger, joined)
    findings = decide(ledger, scores, joined, rate)
    assert auroc(findings.suspicion, wrong) > 0.99
    assert rate.estimate == pytest.approx(wrong.mean(), abs=0.03)
    assert precision_recall_f1(findings.flagged, wrong)[2] > 0.94
    assert findings.p_wrong.mean() == pytest.approx(rate.estimate, abs=1e-6)
    # Calibration: of ten slices by probability none is off by more than a tenth of all rows.
    order = np.argsort(findings.p_wrong)
    gaps = [findings.p_wrong[s].mean() - wrong[s].mean() for s in np.array_split(order, 10)]
    assert np.abs(gaps).mean() < 0.03
    obvious = findings.tier == "obvious"
    assert wrong[obvious].mean() > 0.97
    better = findings.proposed[obvious & wrong] == truth[obvious & wrong]
    assert better.mean() > 0.93


def test_real_digits_without_errors(digits: tuple[np.ndarray, np.ndarray]):
    x, truth = digits
    assert estimate_rate(train(x, truth, 10)).estimate < 0.02


def test_real_digits_with_plausible_errors(digits: tuple[np.ndarray, np.ndarray]):
    x, truth = digits
    rng = np.random.default_rng(0)
    mapping = flips.confused_classes(truth, lambda rows: x[rows], 10, rng)
    given = flips.flip_by_map(truth, mapping, 0.3, rng)
    found = estimate_rate(train(x, given, 10))
    # Half of the evidence is memorised here; the interval has to say so.
    assert found.estimate == pytest.approx(0.3, abs=0.08)
    assert found.low <= 0.3 <= found.high
