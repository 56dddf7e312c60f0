"""Laws that hold for any suspicion, probability and proposal."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from errata.detect.base import Scores
from errata.detect.consensus import consensus, vote
from errata.detect.decide import Flag, calibrate, flag_rows
from errata.detect.mixture import high_loss_posterior
from errata.detect.phantom import fit_null, isotonic, null_posterior
from errata.detect.reading import rank_suspicion

some_rows = st.integers(1, 80)
suspicions = some_rows.flatmap(
    lambda n: arrays.arrays(
        np.float64, n, elements=st.sampled_from([*np.linspace(0, 1, 9), np.nan])
    )
)
numbers = arrays.arrays(
    np.float64, st.integers(1, 60), elements=st.floats(-50, 50, allow_subnormal=False)
)
rates = st.floats(0, 1)


def scores_of(suspicion: np.ndarray) -> Scores:
    return Scores(suspicion, np.full(len(suspicion), -1), str)


@given(values=numbers)
def test_ranks_keep_the_order_and_average_one_half(values: np.ndarray):
    ranks = rank_suspicion(values)
    assert abs(ranks.mean() - 0.5) < 1e-9
    assert ((ranks > 0) & (ranks < 1)).all()
    order = np.argsort(values)
    assert (np.diff(ranks[order]) >= 0).all()
    assert ((values[:, None] == values) == (ranks[:, None] == ranks)).all()


@given(suspicion=suspicions, seed=st.integers(0, 99))
def test_a_consensus_does_not_depend_on_the_order_of_rows(suspicion: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(suspicion))
    second = np.where(np.isnan(suspicion), np.nan, rng.random(len(suspicion)).round(1))
    joined = consensus([scores_of(suspicion), scores_of(second)]).suspicion
    mixed = consensus([scores_of(suspicion[order]), scores_of(second[order])]).suspicion
    np.testing.assert_array_equal(joined[order], mixed)


@given(suspicion=suspicions)
def test_a_consensus_of_one_keeps_its_order(suspicion: np.ndarray):
    np.testing.assert_allclose(
        consensus([scores_of(suspicion)]).suspicion, rank_suspicion(suspicion)
    )


@given(suspicion=suspicions, rate=rates, seed=st.integers(0, 99))
@settings(max_examples=60)
def test_probabilities_rise_with_suspicion_and_average_to_the_rate(
    suspicion: np.ndarray, rate: float, seed: int
):
    posterior = np.random.default_rng(seed).random(len(suspicion))
    p_wrong = calibrate(suspicion, rate, posterior)
    known = ~np.isnan(suspicion)
    np.testing.assert_array_equal(np.isnan(p_wrong), ~known)
    if known.any():
        assert ((p_wrong[known] >= 0) & (p_wrong[known] <= 1)).all()
        # Rates below about 1e-15 cannot be met in log-odds.
        assert abs(p_wrong[known].mean() - rate) < 1e-6
        ordered = p_wrong[known][np.argsort(suspicion[known])]
        assert (np.diff(ordered) >= -1e-12).all()


@given(suspicion=suspicions, rate=rates, top=st.integers(0, 90), share=rates)
def test_flagged_rows_are_the_worst_ones(
    suspicion: np.ndarray, rate: float, top: int, share: float
):
    known = ~np.isnan(suspicion)
    p_wrong = calibrate(suspicion, rate)
    counts = {"auto": round(rate * known.sum()), "top": min(top, known.sum())}
    for flag in (Flag("auto", 0), Flag("top", top), Flag("fdr", share)):
        flagged = flag_rows(suspicion, p_wrong, rate, flag)
        assert not flagged[~known].any()
        assert flagged.sum() == counts.get(flag.kind, flagged.sum())
        if flagged.any() and (known & ~flagged).any():
            assert suspicion[flagged].min() >= suspicion[known & ~flagged].max()
        if flag.kind == "fdr" and flagged.any():
            assert (1 - p_wrong[flagged]).mean() <= share + 1e-9


@given(values=numbers, seed=st.integers(0, 99))
def test_isotonic_rises_and_keeps_the_mean(values: np.ndarray, seed: int):
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(values))
    fitted = isotonic(values, weights)
    assert (np.diff(fitted) >= 0).all()
    np.testing.assert_allclose((fitted * weights).sum(), (values * weights).sum(), atol=1e-8)


@given(loss=numbers)
@settings(max_examples=50)
def test_posteriors_of_losses_are_probabilities_in_order(loss: np.ndarray):
    posterior = high_loss_posterior(loss)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior[np.argsort(loss, kind="stable")]) >= 0).all()


@given(observed=numbers, null=numbers)
@settings(max_examples=50)
def test_posteriors_of_the_null_fall_with_the_margin(observed: np.ndarray, null: np.ndarray):
    fit = fit_null(observed, null)
    assert 0 <= fit.rate <= 1
    assert 0 <= fit.trust <= 1
    posterior = null_posterior(observed, null, fit)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior[np.argsort(observed, kind="stable")]) <= 0).all()


@given(
    proposals=st.lists(st.lists(st.integers(-1, 3), min_size=4, max_size=4), min_size=1, max_size=5)
)
def test_a_vote_gives_a_most_frequent_proposal(proposals: list[list[int]]):
    stack = np.array(proposals)
    for row, winner in enumerate(vote(list(stack))):
        counts = [(stack[:, row] == each).sum() for each in stack[:, row]]
        assert (stack[:, row] == winner).sum() == max(counts)
