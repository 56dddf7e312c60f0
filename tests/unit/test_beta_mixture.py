"""Beta mixtures: moments, recovery, monotone posteriors, the gate, and classes with a prior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.detect import detector_named
from errata.detect.beta_mixture import (
    BetaGroups,
    beta_shape,
    fit_beta_groups,
    fit_beta_mixture,
    has_two_groups,
    high_loss_posterior,
    unit_scale,
)
from errata.detect.wrong_event import event_share, wrong_event_posterior
from errata.ledger import Ledger, standard
from errata.measures import auroc

NAN = math.nan


def halves(low: int = 5000, high: int = 5000, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.r_[rng.beta(2, 8, low), rng.beta(8, 2, high)]


# Values by hand.


def test_a_beta_has_the_moments_it_was_given():
    alpha, beta = beta_shape(0.3, 0.01)
    assert (alpha, beta) == pytest.approx((6, 14))
    assert alpha / (alpha + beta) == pytest.approx(0.3)


def test_percentiles_are_clipped_first_so_that_an_outlier_does_not_set_the_scale():
    values = np.r_[np.linspace(0, 1, 101), 1e9]
    scaled, inside = unit_scale(values)
    assert scaled[50] == pytest.approx(0.5, abs=0.02)
    assert scaled[-1] == 1
    assert not inside[[0, -1]].any()


def test_equal_and_unknown_values_are_scaled_to_nought_and_left_unknown():
    scaled, inside = unit_scale(np.array([2.0, 2.0, NAN]))
    assert scaled == pytest.approx([0, 0, NAN], nan_ok=True)
    assert not inside.any()
    assert np.isnan(unit_scale(np.array([NAN]))[0]).all()


# Recovery.


@pytest.mark.parametrize("low", [5000, 2000, 8000])
def test_ten_rounds_recover_the_weights(low: int):
    mixture = fit_beta_mixture(halves(low, 10_000 - low), rounds=10)
    assert mixture.weights[0] == pytest.approx(low / 10_000, abs=0.02)
    assert mixture.alpha == pytest.approx([2, 8], rel=0.15)
    assert mixture.beta == pytest.approx([8, 2], rel=0.15)


def test_the_component_that_is_higher_comes_last_whatever_its_size():
    for high in (1000, 9000):
        mixture = fit_beta_mixture(halves(10_000 - high, high))
        means = mixture.alpha / (mixture.alpha + mixture.beta)
        assert means[0] < means[1]
        assert mixture.weights[1] == pytest.approx(high / 10_000, abs=0.02)


def test_each_class_recovers_its_own_weight():
    shares = [0.05, 0.3, 0.6]
    x = np.concatenate([halves(round(4000 * (1 - s)), round(4000 * s), seed=3) for s in shares])
    group = np.repeat(np.arange(3), 4000)
    fit = fit_beta_groups(x, group)
    assert fit.weights[:, 1] == pytest.approx(shares, abs=0.02)
    assert fit.two.all()


def test_one_group_is_the_mixture_of_all_rows():
    x = halves()
    alone = fit_beta_groups(x, np.zeros(len(x), np.int64), borrow=0)
    mixture = fit_beta_mixture(x, rounds=10)
    assert alone.weights[0] == pytest.approx(mixture.weights, abs=1e-3)
    assert alone.alpha[0] == pytest.approx(mixture.alpha, rel=1e-2)


def test_a_class_of_few_rows_leans_on_the_others():
    x = np.r_[halves(3000, 1000), 0.2, 0.8]
    group = np.r_[np.zeros(4000, np.int64), 1, 1]
    fit = fit_beta_groups(x, group)
    assert fit.alpha[1] == pytest.approx(fit.alpha[0], rel=0.1)
    assert fit.weights[1, 1] == pytest.approx(0.25, abs=0.05)
    assert fit.posterior(x, group)[-2:] == pytest.approx([0, 1], abs=0.05)
    own = fit_beta_groups(x, group, borrow=0)
    assert own.alpha[1, 0] > 100 * fit.alpha[1, 0], "two rows alone are two spikes"


# Laws.


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 2**32))
def test_a_posterior_never_falls_within_a_group(rows: int, groups: int, seed: int):
    rng = np.random.default_rng(seed)
    x, group = rng.random(rows), rng.integers(0, groups, rows)
    posterior = fit_beta_groups(x, group).posterior(x, group)
    assert ((posterior >= 0) & (posterior <= 1)).all()
    for g in range(groups):
        mine = np.flatnonzero(group == g)
        assert (np.diff(posterior[mine[x[mine].argsort()]]) >= 0).all()


def test_a_wide_low_component_does_not_take_the_highest_values():
    # Beyond the top of a narrow component a wide one is denser, and the posterior would fall.
    groups = BetaGroups(
        np.array([[0.5, 0.5]]), np.array([[1.0, 80.0]]), np.array([[1.2, 20.0]]), np.array([True])
    )
    x = np.array([0.5, 0.8, 0.999])
    assert groups.posterior(x, np.zeros(3, np.int64))[2] == pytest.approx(
        groups.posterior(x, np.zeros(3, np.int64))[1]
    )


def test_the_order_of_rows_does_not_matter():
    x, rng = halves(300, 100), np.random.default_rng(1)
    group = rng.integers(0, 3, 400)
    order = rng.permutation(400)
    straight = fit_beta_groups(x, group).posterior(x, group)
    shuffled = fit_beta_groups(x[order], group[order]).posterior(x[order], group[order])
    np.testing.assert_allclose(shuffled, straight[order], atol=1e-9)


# The gate.


def test_one_heap_is_not_cut_in_halves():
    x = np.random.default_rng(0).beta(3, 9, 6000)
    two = fit_beta_mixture(x)
    assert two.weights.min() > 0.02, "without a gate, some rows would be called high"
    assert not has_two_groups(fit_beta_mixture(x, 1), two)
    fit = fit_beta_groups(x, np.zeros(6000, np.int64))
    assert not fit.two.any()
    assert not fit.posterior(x, np.zeros(6000, np.int64)).any()


def test_the_gate_is_one_for_each_class():
    x = np.r_[np.random.default_rng(0).beta(3, 9, 4000), halves(2000, 2000)]
    fit = fit_beta_groups(x, np.repeat([0, 1], 4000))
    assert fit.two.tolist() == [False, True]


def test_a_beta_with_a_heap_at_either_end_is_two_groups():
    x = np.random.default_rng(0).beta(0.3, 0.3, 4000)
    assert has_two_groups(fit_beta_mixture(x, 1), fit_beta_mixture(x))


def test_two_heaps_of_losses_are_told_apart_where_tails_would_hide_them():
    rng = np.random.default_rng(0)
    loss = np.r_[rng.gamma(0.3, 1.0, 6000), rng.normal(4.0, 0.6, 4000)]
    posterior = high_loss_posterior(loss, rounds=10)
    assert (posterior[6000:] > 0.5).mean() > 0.97
    assert (posterior[:6000] > 0.5).mean() < 0.05


def test_no_losses_and_equal_losses_are_nobodys():
    assert np.isnan(high_loss_posterior(np.array([NAN]))).all()
    assert high_loss_posterior(np.array([1.0, 1.0, NAN])) == pytest.approx([0, 0, NAN], nan_ok=True)


# Wrong events.


def test_shares_of_events_are_strictly_between_nought_and_one():
    share = event_share(np.array([0, 3, 9, 0]), np.array([9, 9, 9, 0]))
    assert share == pytest.approx([0.05, 0.35, 0.95, NAN], nan_ok=True)


def counted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of 20 epochs for an easy class and one that is hard as a whole; 30 % are wrong."""
    rng = np.random.default_rng(seed)
    given_labels = np.repeat([0, 1], 2000)
    wrong = rng.random(4000) < 0.3
    easy = np.where(wrong, rng.binomial(20, 0.55, 4000), rng.binomial(20, 0.04, 4000))
    hard = np.where(wrong, rng.binomial(20, 0.95, 4000), rng.binomial(20, 0.45, 4000))
    return np.where(given_labels == 0, easy, hard), given_labels, wrong


def test_mixtures_of_the_classes_beat_one_for_all_where_a_class_is_hard():
    events, given_labels, wrong = counted()
    views = np.full(4000, 20)
    own = wrong_event_posterior(events, views, given_labels)
    shared = wrong_event_posterior(events, views, given_labels, per_class=False)
    assert ((own > 0.5) == wrong).mean() > 0.98
    assert ((shared > 0.5) == wrong).mean() < 0.9
    assert auroc(own, wrong) > auroc(shared, wrong) + 0.05


def test_rows_that_were_not_seen_or_have_no_label_have_no_posterior():
    events, given_labels, _ = counted()
    views = np.full(4000, 20)
    views[0], given_labels[1] = 0, -1
    posterior = wrong_event_posterior(events, views, given_labels)
    assert np.isnan(posterior[:2]).all()
    assert not np.isnan(posterior[2:]).any()
    assert np.isnan(wrong_event_posterior(events, np.zeros(4000), given_labels)).all()


def test_words_say_how_often_and_for_whom():
    events, given_labels, _ = counted()
    ledger = Ledger([str(i) for i in range(4000)], given_labels, ["a", "b"])
    for name, values in (("disagree_sum", events), ("times_seen", np.full(4000, 20))):
        ledger.add("track", standard(name))
        ledger.write(name, torch.arange(4000), torch.from_numpy(values), stamp=0)
    words = detector_named("wrong_event").score(ledger).words(0)
    assert words.startswith(f"predicted otherwise in {events[0]} of 20 epochs, often for its class")
