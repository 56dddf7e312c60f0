"""How many labels are wrong: readings by hand, and what each rule makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from errata.blocks import blocks_of
from errata.detect.how_many import RULES, RateReadings, estimate_rate, read_rates, transition_em
from errata.detect.one_pass import one_pass
from errata.detect.score import find_label_errors


def test_readings_by_hand():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    table = blocks_of(probs, "probs")
    readings = read_rates(one_pass(table, np.array([0, 0, 0, 1, 1, 1])), table)
    assert readings.disagreement == pytest.approx(2 / 6)
    assert readings.doubt == pytest.approx((1 - 0.4 / 0.6) * 2 / 6)
    # Rows 0, 1 and 3 lie above the median of the best probabilities, .75, and are right.
    assert readings.sure == 0.0
    assert readings.surest == 0.0
    # Thresholds .7 and 2/3: rows 0, 1, 3 and 4 are sure, and all of them are right.
    assert readings.confident == 0.0


def test_a_transition_is_found_again():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 6000)
    T = np.array([[0.8, 0.2, 0.0], [0.0, 0.7, 0.3], [0.1, 0.0, 0.9]])
    given = np.array([rng.choice(3, p=row) for row in T[true]])
    clean = 0.97 * np.eye(3)[true] + 0.01
    found, rate = transition_em(clean, given)
    assert found == pytest.approx(T, abs=0.03)
    assert rate == pytest.approx((given != true).mean(), abs=0.02)


def test_the_surest_tenth_is_read_with_all_rows_of_its_height():
    best = np.array([0.6] * 6 + [0.7, 0.8, 0.9, 0.9])
    table = blocks_of(np.stack([best, 1 - best], axis=1), "probs")
    given = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 0])
    readings = read_rates(one_pass(table, given), table)
    # The two rows of .9 make the tenth; the half begins at .6 and so holds every row.
    assert (readings.surest, readings.sure) == (0.5, 0.3)
    turned = blocks_of(table.read(0, 10)[::-1], "probs")
    assert read_rates(one_pass(turned, given[::-1]), turned).surest == readings.surest


@pytest.mark.parametrize(
    ("surest", "rate"),
    [
        # The surest tenth never disagrees: the model errs, and the sure half alone counts.
        (0.0, 0.1),
        # Half of a fifth of the disagreement of all rows: half way to the mean of .3 and .2.
        (0.04, 0.1 + 0.5 * (0.25 - 0.1)),
        (0.08, 0.25),
        (0.3, 0.25),
    ],
)
def test_the_surest_tenth_says_how_far_all_rows_count(surest: float, rate: float):
    readings = RateReadings(10_000, 10, 0.4, 0.3, 0.2, 0.1, 0.1, surest)
    found = estimate_rate(readings, rule="surest")
    assert found.estimate == pytest.approx(rate)
    assert found.method == "surest"


def test_a_sure_half_that_errs_more_than_all_rows_counts_alone():
    readings = RateReadings(10_000, 10, 0.4, 0.2, 0.2, 0.1, 0.35, 0.3)
    assert estimate_rate(readings, rule="surest").estimate == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("sure", "rate"),
    [
        # The sure half disagrees in a tenth of what all rows do: the model alone is unsure.
        (0.04, 0.04),
        (0.08, (0.08 + 0.3) / 2),
        (0.2, 0.3),
        # Rises by 2.5 times what the sure half has beyond .225.
        (0.325, 0.3 + 0.25 * 0.1),
    ],
)
def test_the_sure_half_corrects_the_doubt(sure: float, rate: float):
    readings = RateReadings(10_000, 10, 0.4, 0.3, 0.1, 0.1, sure, 0.0)
    assert estimate_rate(readings, rule="gated").estimate == pytest.approx(rate)


def test_the_fitted_blend_by_hand_and_without_a_posterior():
    readings = RateReadings(1000, 10, 0.4, 0.3, 0.1, 0.2, 0.3, 0.1)
    expected = 0.28 * 0.2 + 0.8 * 0.3 - 0.08 * 0.4
    assert estimate_rate(readings, rule="fitted").estimate == pytest.approx(expected)
    wide = RateReadings(1000, 500, 0.4, 0.3, 0.1, float("nan"), 0.3, 0.1)
    gated = estimate_rate(wide, rule="gated")
    assert estimate_rate(wide, rule="fitted").estimate == gated.estimate


def test_an_unsure_model_of_clean_labels_flags_few_rows():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 10)) * np.where(rng.random(20_000) < 0.6, 30, 2)[:, None]
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    labels = (rng.random(20_000)[:, None] > probs.cumsum(1)).sum(1).clip(max=9)
    assert (probs.argmax(1) != labels).mean() > 0.1
    assert find_label_errors(labels, probs).flagged.mean() <= 0.03
    assert find_label_errors(labels, probs, rule="doubt").flagged.mean() > 0.05


def test_wide_tables_have_no_posterior_and_every_rule_still_answers():
    readings = RateReadings(1000, 500, 0.3, 0.2, 0.1, float("nan"), 0.1, 0.05)
    assert set(readings.values) == {"disagreement", "doubt", "confident", "sure"}
    for rule in RULES:
        rate = estimate_rate(readings, rule=rule)
        assert 0 <= rate.low <= rate.estimate <= rate.high <= 1
