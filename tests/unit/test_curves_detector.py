"""Loss curves: what is done to them, clusters, the choice of a plan, and single epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import simulate

from errata.detect import detector_named
from errata.detect.curves import (
    PLANS,
    Plan,
    align_curves,
    choose_plan,
    cluster_curves,
    moving_average,
    noisy_curves,
    prepare_curves,
    silhouette,
    vote_noisy,
)
from errata.detect.losses import Arazo, centred_loss_sum
from errata.errors import SettingsError
from errata.ledger import Ledger, standard
from errata.measures import auroc

NAN = math.nan


def two_kinds(
    low: int = 80, high: int = 20, *, epochs: int = 12, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Curves that fall at once, curves that stay up; and which are which."""
    rng = np.random.default_rng(seed)
    steps = np.arange(epochs)
    fall, stay = 2 * np.exp(-steps / 2), 2.5 - 0.05 * steps
    is_high = np.arange(low + high) >= low
    curves = np.where(is_high[:, None], stay, fall) + rng.normal(0, 0.2, (low + high, epochs))
    return np.maximum(curves, 0), is_high


# Values by hand.


def test_losses_are_limited_and_averaged_over_five_epochs():
    # 2 ln 10 = 4.605; (4.605 + 1 + 2 + 1 + 1) / 5 and (1 + 2 + 1 + 1 + 0) / 5.
    row = np.array([[9.0, 1.0, 2.0, 1.0, 1.0, 0.0]])
    limit = 2 * math.log(10)
    assert prepare_curves(row, 10) == pytest.approx(np.array([[(limit + 5) / 5, 1.0]]))


def test_a_short_curve_is_averaged_whole():
    assert moving_average(np.array([[1.0, 3.0]])).tolist() == [[2.0]]


def test_curves_that_end_early_go_on_with_their_last_loss():
    ring = np.array([[NAN, NAN, 3.0], [NAN, 2.0, 1.0], [NAN, NAN, NAN]])
    aligned = align_curves(ring, np.array([1, 2, 0]))
    np.testing.assert_array_equal(aligned, [[3, 3], [2, 1], [NAN, NAN]])


def test_each_epochs_mean_is_taken_off_before_losses_are_summed():
    curves = np.array([[3.0, 1.0], [1.0, 0.0], [2.0, NAN], [NAN, NAN]])
    assert centred_loss_sum(curves) == pytest.approx([1.5, -1.5, 0.0, NAN], nan_ok=True)


# Oracles.


def test_clusters_agree_with_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    curves, _ = two_kinds()
    for k in (2, 3):
        theirs = cluster.KMeans(k, n_init=5, random_state=0).fit(curves)
        middles = theirs.cluster_centers_[theirs.cluster_centers_.sum(1).argsort()]
        # The third of three clusters in two clouds is a matter of luck; the tightness is not.
        mine = cluster_curves(curves, k)
        apart = ((curves[:, None] - mine) ** 2).sum(2).min(1).sum()
        assert apart <= theirs.inertia_ * 1.02
        if k == 2:
            np.testing.assert_allclose(mine, middles, atol=1e-6)


def test_silhouettes_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    curves, is_high = two_kinds()
    assert silhouette(curves, is_high) == pytest.approx(metrics.silhouette_score(curves, is_high))


def test_a_thousand_rows_stand_for_many_in_a_silhouette():
    curves, is_high = two_kinds(2400, 600)
    some = two_kinds(240, 60)
    assert silhouette(curves, is_high) == pytest.approx(silhouette(*some), abs=0.05)


def test_one_group_has_no_silhouette():
    assert silhouette(np.zeros((4, 2)), np.zeros(4, bool)) == 0


# Plans.


def test_the_plans_are_those_of_the_paper():
    found = {(plan.clusters, plan.noisy, plan.windows) for plan in PLANS}
    assert found == {(2, 1, w) for w in (1, 2, 4)} | {(3, s, w) for s in (1, 2) for w in (1, 2, 4)}


@pytest.mark.parametrize("plan", PLANS)
def test_votes_are_shares_of_windows(plan: Plan):
    curves, _ = two_kinds()
    votes = vote_noisy(curves, plan)
    assert set((votes * plan.windows).tolist()) <= set(range(plan.windows + 1))


def test_windows_outvote_a_short_rise():
    curves, is_high = two_kinds()
    # One right row has high losses in the last quarter only.
    curves[0, 9:] = 9.0
    assert vote_noisy(curves, Plan(2, 1, 4))[0] == 0.25
    assert (vote_noisy(curves, Plan(2, 1, 4)) > 0.5).tolist() == is_high.tolist()


def test_the_chosen_plan_tells_two_kinds_of_curves_apart():
    curves, is_high = two_kinds()
    plan, noisy = choose_plan(curves)
    assert plan.clusters == 2
    assert (noisy == is_high).all()
    again = choose_plan(curves, right=~is_high)
    assert (again[1] == is_high).all()


def test_each_class_is_clustered_for_itself():
    # The right rows of the second class have losses like the wrong ones of the first.
    curves, is_high = two_kinds()
    other, other_high = two_kinds(seed=1)
    both = np.concatenate([curves, other + 2.0])
    labels = np.repeat([0, 1], 100)
    assert (noisy_curves(both, labels) == np.r_[is_high, other_high]).all()
    assert (noisy_curves(both, np.zeros(200, np.int64)) != np.r_[is_high, other_high]).any()


def test_classes_of_few_rows_are_clustered_together_and_unlabelled_ones_never():
    curves, is_high = two_kinds(12, 4)
    labels = np.r_[np.arange(15) % 5, -1]
    noisy = noisy_curves(curves, labels)
    assert noisy.tolist() == [*is_high[:15].tolist(), False]


def test_a_single_row_is_nothing():
    assert noisy_curves(np.ones((1, 3)), np.zeros(1, np.int64)).tolist() == [False]


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32))
def test_the_order_of_rows_does_not_change_the_verdict(rows: int, epochs: int, seed: int):
    rng = np.random.default_rng(seed)
    curves, labels = rng.gamma(1, 1, (rows, epochs)), rng.integers(-1, 3, rows)
    order = rng.permutation(rows)
    straight = noisy_curves(curves, labels)
    assert (noisy_curves(curves[order], labels[order]) == straight[order]).all()


# Detectors.


@pytest.fixture(scope="module")
def trained() -> tuple[object, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 600)
    wrong = rng.random(600) < 0.25
    given_labels = np.where(wrong, (truth + rng.integers(1, 4, 600)) % 4, truth)
    return simulate(truth, given_labels, 4, memory=6.0).ledger(), wrong


def test_the_verdict_comes_before_the_area(trained: tuple):
    ledger, wrong = trained
    scores = detector_named("ctrl").score(ledger)
    aligned = align_curves(ledger.read("loss_curve").numpy(), ledger.filled("loss_curve").numpy())
    noisy = noisy_curves(prepare_curves(aligned, 4), ledger.given.numpy())
    assert scores.suspicion[noisy].min() > scores.suspicion[~noisy].max()
    for part in (noisy, ~noisy):
        assert (np.argsort(scores.suspicion[part]) == np.argsort(scores.values[part])).all()
    assert auroc(scores.suspicion, wrong) > 0.9


def test_centred_losses_order_rows_as_accumulated_ones_where_all_epochs_were_seen(trained: tuple):
    ledger, _ = trained
    centred = detector_named("o2u").score(ledger).suspicion
    summed = detector_named("accumulated_loss").score(ledger).suspicion
    # The curve is kept in half precision, the sum is not.
    assert np.corrcoef(centred, summed)[0, 1] > 0.9999


@pytest.mark.parametrize(("at", "epoch"), [(None, 3), (0.0, 0), (0.55, 5), (1.0, 9)])
def test_the_mixture_is_one_of_a_single_epochs_losses(at: float | None, epoch: int):
    rng = np.random.default_rng(0)
    curves = rng.uniform(0, 1, (500, 10))
    wrong = rng.random(500) < 0.3
    curves[:, epoch] = rng.gamma(0.5, 0.2, 500) + 2.0 * wrong
    ledger = Ledger([str(i) for i in range(500)], np.zeros(500, np.int64), ["a", "b"])
    ledger.add("track", standard("loss_curve", keep=10))
    for column in curves.T:
        ledger.write("loss_curve", torch.arange(500), torch.from_numpy(column), stamp=0)
    scores = (Arazo() if at is None else Arazo(at=at)).score(ledger)
    assert auroc(scores.suspicion, wrong) > 0.99
    assert scores.values is not None
    assert ((scores.values > 0.5) == wrong).mean() > 0.97
    assert f"in epoch {epoch}" in scores.words(0)


@pytest.mark.parametrize("at", [-0.1, 1.5])
def test_an_epoch_outside_of_training_is_refused(at: float):
    with pytest.raises(SettingsError, match=r"arazo at `.*` is out of range; allowed: 0 to 1"):
        Arazo(at=at)


def test_a_ledger_without_any_view_has_no_suspicion():
    ledger = Ledger(["a", "b"], np.array([0, 1]), ["x", "y"])
    ledger.add("track", standard("loss_curve", keep=3), standard("prob_sum", shape=(2,)))
    ledger.write("prob_sum", torch.arange(2), torch.zeros(2, 2), stamp=0)
    for name in ("ctrl", "o2u", "arazo", "cartography"):
        assert np.isnan(detector_named(name).score(ledger).suspicion).all(), name
