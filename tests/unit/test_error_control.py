"""Lists with a bounded share of false alarms: values by hand, laws, trials with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from errata.detect import RateEstimate, Scores
from errata.detect.decide import decide, flag_rows
from errata.detect.error_control import (
    alarm_shares,
    benjamini_hochberg,
    conformal_p_values,
    flag_against_right,
    flag_against_wrong,
    flag_by_probability,
    parse_flag,
    storey_share,
)
from errata.errors import SettingsError
from errata.ledger import Ledger

NAN = np.nan


# Values by hand.


def test_a_p_value_is_the_rank_among_the_right_ones_and_ties_count_against_a_row():
    right = np.array([0.1, 0.2, 0.2, 0.4])
    found = conformal_p_values(np.array([0.5, 0.4, 0.2, 0.0, NAN]), right)
    assert found[:4].tolist() == [1 / 5, 2 / 5, 4 / 5, 5 / 5]
    assert np.isnan(found[4])


def test_the_table_of_benjamini_and_hochberg_is_reproduced():
    # The fifteen p-values of section 3 of their paper: at .05 the procedure rejects four.
    p_values = np.array(
        [
            *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
            *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
        ]
    )
    assert np.flatnonzero(benjamini_hochberg(p_values, 0.05)).tolist() == [0, 1, 2, 3]


def test_fewer_right_labels_allow_a_longer_list():
    p_values = np.array([0.05, 0.1, 0.5, 0.9])
    assert benjamini_hochberg(p_values, 0.1).sum() == 0
    assert benjamini_hochberg(p_values, 0.1, right_share=0.5).tolist() == [True, True, False, False]


def test_unknown_rows_are_never_flagged_and_do_not_count():
    assert benjamini_hochberg(np.array([NAN, 0.1, NAN]), 0.1).tolist() == [False, True, False]
    assert not benjamini_hochberg(np.array([NAN]), 1.0).any()


def test_large_p_values_give_the_share_of_right_labels():
    assert storey_share(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1])) == 0.5
    assert storey_share(np.array([NAN])) == 1.0


def test_alarms_are_what_the_null_does_not_explain():
    suspicion = np.array([1.0, 5.0, 4.0, NAN, 2.0, 3.0])
    # Two of five are wrong, and the null lies at 5.5 and 2.5: one half of it reaches 3 and above.
    found = alarm_shares(suspicion, np.array([5.5, 2.5]), 0.4)
    # Lists from the top: 5, 4, 3, 2, 1 with 1, 1, 1, 2, 2 expected wrong ones.
    expected = {5.0: 0.0, 4.0: 0.5, 3.0: 0.5, 2.0: 0.5, 1.0: 0.6}
    for value, share in zip(suspicion, found, strict=True):
        assert np.isnan(share) if np.isnan(value) else share == pytest.approx(expected[value])
    assert flag_against_wrong(suspicion, np.array([5.5, 2.5]), 0.4, 0.5).sum() == 4
    assert flag_against_wrong(suspicion, np.array([5.5, 2.5]), 0.4, 0.49).sum() == 1


def test_a_list_ends_where_the_mean_of_right_labels_passes_the_share():
    p_wrong = np.array([0.5, 1.0, NAN, 0.9])
    flagged = flag_by_probability(p_wrong, p_wrong, 0.05)
    assert flagged.tolist() == [False, True, False, True]
    assert flag_by_probability(p_wrong, p_wrong, 0.2).sum() == 3
    assert flag_by_probability(p_wrong, p_wrong, 0.0).sum() == 1


# Laws.

scores = arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(-5, 5))


@settings(max_examples=60, deadline=None)
@given(scores, scores, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_flags_fewer_rows(suspicion, other, one, two):
    low, high = sorted((one, two))
    pairs = [
        (flag_against_right(suspicion, other, q), flag_against_wrong(suspicion, other, 0.3, q))
        for q in (low, high)
    ]
    for few, many in zip(*pairs, strict=True):
        assert (many | ~few).all()


@settings(max_examples=60, deadline=None)
@given(scores, scores)
def test_only_the_order_of_suspicion_counts(suspicion, other):
    def stretched(values):
        return np.round(values, 3) * 3 + 1

    one = flag_against_right(np.round(suspicion, 3), np.round(other, 3), 0.2)
    assert (one == flag_against_right(stretched(suspicion), stretched(other), 0.2)).all()


# Trials with a known truth.


def trial(seed: int, wrong_mean: float = 2.5) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    wrong = rng.random(2000) < 0.2
    return np.where(wrong, rng.normal(wrong_mean, 1, 2000), rng.normal(0, 1, 2000)), wrong, rng


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_right_calibration_rows_keep_the_mean_share_in_bounds_for_any_error(share: float):
    realised, found = [], []
    for seed in range(100):
        # Even errors that lie close to the right labels: there are then few flags.
        suspicion, wrong, rng = trial(seed, wrong_mean=2.5 if seed % 2 else 1.5)
        flagged = flag_against_right(suspicion, rng.normal(0, 1, 500), share)
        realised.append((flagged & ~wrong).sum() / max(1, flagged.sum()))
        found.append((flagged & wrong).sum() / wrong.sum())
    assert np.mean(realised) <= share + 0.01
    assert np.mean(found) > 0.2


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_a_right_null_of_wrong_labels_keeps_the_mean_share_near(share: float):
    realised = []
    for seed in range(100):
        suspicion, wrong, rng = trial(seed)
        flagged = flag_against_wrong(suspicion, rng.normal(2.5, 1, 2000), wrong.mean(), share)
        realised.append((flagged & ~wrong).sum() / max(1, flagged.sum()))
    assert np.mean(realised) == pytest.approx(share, abs=0.015)


def test_errors_that_look_milder_than_the_null_break_the_promise_as_documented():
    suspicion, wrong, rng = trial(0, wrong_mean=1.0)
    flagged = flag_against_wrong(suspicion, rng.normal(3.0, 1, 2000), 0.2, 0.1)
    assert (flagged & ~wrong).sum() / flagged.sum() > 0.3


# Bad input.


@pytest.mark.parametrize("share", [-0.1, 1.1, NAN])
def test_a_share_outside_its_range_is_refused(share: float):
    some = np.array([0.5, 0.2])
    for flag in (
        lambda: benjamini_hochberg(some, share),
        lambda: flag_against_right(some, some, share),
        lambda: flag_against_wrong(some, some, 0.1, share),
        lambda: flag_by_probability(some, some, share),
    ):
        with pytest.raises(SettingsError, match="of false alarms is not allowed; allowed: 0 to 1"):
            flag()


def test_calibration_without_usable_rows_is_refused():
    some = np.array([0.5, 0.2])
    with pytest.raises(SettingsError, match="no calibration row known to be right"):
        conformal_p_values(some, some[:0])
    with pytest.raises(SettingsError, match="row known to be right `1` has the suspicion `nan`"):
        conformal_p_values(some, np.array([0.1, NAN]))
    with pytest.raises(SettingsError, match="no null value"):
        alarm_shares(some, some[:0], 0.1)


def test_other_numbers_outside_their_range_are_refused():
    some = np.array([0.5, 0.2])
    with pytest.raises(SettingsError, match=r"rate `1\.5`"):
        alarm_shares(some, some, 1.5)
    with pytest.raises(SettingsError, match=r"above `1\.0`"):
        storey_share(some, above=1.0)
    with pytest.raises(SettingsError, match="right_share `0`"):
        benjamini_hochberg(some, 0.1, right_share=0)


# The operating point of an audit.


def test_enough_rows_that_people_found_right_bound_the_alarms_instead_of_probabilities():
    suspicion, wrong, rng = trial(0)
    verified = np.full(2000, -1)
    seen = rng.permutation(2000)[:300]
    verified[seen] = ~wrong[seen]
    # Probabilities that are far too high would flag every row.
    p_wrong = np.full(2000, 0.99)
    flag = parse_flag("fdr:0.1")
    assert flag_rows(suspicion, p_wrong, 0.2, flag).all()
    flagged = flag_rows(suspicion, p_wrong, 0.2, flag, verified)
    assert flagged[verified == 0].all()
    assert not flagged[verified == 1].any()
    assert (flagged & ~wrong).sum() / flagged.sum() < 0.15
    assert (flagged & wrong).sum() / wrong.sum() > 0.5


def test_too_few_rows_found_right_leave_the_decision_to_probabilities():
    suspicion, _, _ = trial(0)
    verified = np.full(2000, -1)
    # Nobody of 2,000 at a rate of .2 can stand out enough: 49 * .2 * .1 is below 1.
    verified[:48] = 1
    p_wrong = np.where(suspicion > 2, 0.99, 0.01)
    flag = parse_flag("fdr:0.1")
    expected = flag_rows(suspicion, p_wrong, 0.2, flag)
    assert (flag_rows(suspicion, p_wrong, 0.2, flag, verified) == expected).all()


def test_a_list_with_a_promise_counts_on_fewer_errors_where_the_rate_is_unsure():
    suspicion = (np.arange(200) + 0.5) / 200
    ledger = Ledger([str(row) for row in range(200)], np.zeros(200, np.int64), ["a", "b"])
    said = Scores(suspicion, np.ones(200, np.int64), lambda row: "", "margin", suspicion)

    def listed(low: float, flag: str) -> int:
        rate = RateEstimate(0.3, low, 0.4, "by hand")
        return int(decide(ledger, [said], said, rate, flag=flag).flagged.sum())

    # The low end counts by half: .3 and .1 give the list of .2 and .2.
    other = RateEstimate(0.2, 0.2, 0.2, "by hand")
    expected = int(decide(ledger, [said], said, other, flag="fdr:0.1").flagged.sum())
    assert listed(0.1, "fdr:0.1") == expected < listed(0.3, "fdr:0.1")
    assert listed(0.1, "auto") == listed(0.3, "auto") == 60
