"""SimiFeat: votes and ranks by hand, laws, a loop as the oracle, and digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.detect.neighbours import label_counts, neighbour_reason
from errata.detect.simifeat import (
    majority,
    neighbour_scores,
    neighbour_vote,
    rank_scores,
    simifeat_rank,
    simifeat_vote,
    wrong_shares,
)
from errata.errors import SettingsError

NEAR = np.array([[1, 2, 3], [0, 2, 3], [3, 4, 0], [2, 4, 1], [3, 2, 1]])
GIVEN = np.array([0, 0, 1, 1, 0])


def test_the_vote_of_five_rows_by_hand():
    found = simifeat_vote(NEAR, GIVEN, classes=2)
    # Row 2 has the neighbours 1 0 0 and row 4 has 1 1 0.
    assert found.flagged.tolist() == [True, True, True, True, True]
    assert found.proposed.tolist() == [1, 1, 0, 0, 1]


def test_the_given_label_wins_a_tie_and_else_the_lowest_class():
    counts = np.array([[2, 2, 0], [2, 2, 1], [1, 1, 0]])
    found = neighbour_vote(counts, np.array([1, 2, -1]))
    assert found.flagged.tolist() == [False, True, False]
    assert found.proposed.tolist() == [-1, 0, 0]


def test_a_rank_is_minus_the_logarithm_of_the_share():
    counts = np.array([[10, 0], [5, 5], [10, 0], [3, 7]])
    found = rank_scores(counts, np.array([0, 0, 1, -1]))
    expected = [0.0, math.log(2), -math.log(1e-8), math.nan]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_wrong_share_of_a_label_by_bayes():
    T = np.array([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])
    found = wrong_shares(T, np.array([0.5, 0.25, 0.25]))
    # Given 0: .4 right and .025 wrong; given 1: .225 right and .1 wrong.
    assert found == pytest.approx([0.025 / 0.425, 0.1 / 0.325, 0.0])


def test_a_label_that_is_never_given_is_not_wrong():
    T = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert wrong_shares(T, np.array([0.5, 0.5])).tolist() == [0.5, 0.0]


def test_the_rank_flags_the_share_of_each_class_ties_by_row():
    scores = np.array([3.0, 1.0, 3.0, 2.0, 5.0, 5.0, np.nan])
    given = np.array([0, 0, 0, 0, 1, 1, -1])
    assert np.flatnonzero(simifeat_rank(scores, given, np.array([0.5, 0.5]))).tolist() == [0, 2, 4]
    assert np.flatnonzero(simifeat_rank(scores, given, np.array([0.25, 0.0]))).tolist() == [0]


def test_no_row_is_flagged_where_no_label_is_wrong():
    scores = np.linspace(0, 1, 40)
    assert not simifeat_rank(scores, np.arange(40) % 4, np.zeros(4)).any()


def test_more_than_half_of_the_rounds_must_flag():
    rounds = np.array([[True, True, False], [True, False, False], [False, True, True]])
    assert majority(rounds).tolist() == [True, True, False]
    assert majority(rounds[:2]).tolist() == [True, False, False]
    with pytest.raises(SettingsError, match="`0` rounds"):
        majority(rounds[:0])


@drawn(seed=st.integers(0, 1000), classes=st.integers(2, 5), k=st.integers(1, 7))
def test_votes_and_ranks_by_a_slow_loop(seed: int, classes: int, k: int):
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes, 30)
    near = rng.integers(0, 30, (30, k))
    found = simifeat_vote(near, given, classes=classes)
    scores = rank_scores(label_counts(near, given, classes=classes), given)
    for row in range(30):
        labels = [int(given[other]) for other in near[row]]
        most = max(labels.count(label) for label in range(classes))
        own = labels.count(int(given[row]))
        assert found.flagged[row] == (own < most)
        assert scores[row] == pytest.approx(max(0.0, -math.log(own / k + 1e-8)))
        if own < most:
            assert labels.count(int(found.proposed[row])) == most


def test_suspicion_grows_as_the_rank_does():
    rng = np.random.default_rng(0)
    given, near = rng.integers(0, 3, 60), rng.integers(0, 60, (60, 8))
    scores = rank_scores(label_counts(near, given, classes=3), given)
    suspicion = neighbour_scores(near, given, classes=3).suspicion
    order = np.argsort(scores, kind="stable")
    assert (np.diff(suspicion[order]) >= 0).all()
    assert ((np.diff(scores[order]) > 1e-9) == (np.diff(suspicion[order]) > 0)).all()


def test_rows_without_a_label_are_proposed_one_and_get_no_suspicion():
    given = np.array([0, 0, 1, -1])
    near = np.array([[1, 2], [0, 2], [0, 1], [0, 1]])
    found = neighbour_scores(near, given, classes=2)
    assert np.isnan(found.suspicion).tolist() == [False, False, False, True]
    assert found.proposed[3] == 0


def test_reasons_name_the_nearest_rows_and_their_labels():
    given = np.array([0, 1, 1, 2, 0])
    reason = neighbour_reason(
        0,
        np.array([2, 1, 3]),
        given,
        name=("cat", "dog", "owl").__getitem__,
        key=("a", "b", "c", "d", "e").__getitem__,
    )
    assert (reason.kind, reason.value) == ("neighbours", 1.0)
    assert reason.text == (
        "all 3 nearest rows have another label, 2 of them `dog`: c (dog), b (dog), d (owl)"
    )
    same = neighbour_reason(0, np.array([4]), given)
    assert same.text == "the nearest row has this label: 4 (0)"
