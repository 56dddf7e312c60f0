"""Densities, prototypes, likeness to them: five vectors by hand, laws, and other people's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from errata.errors import SettingsError
from errata.features.clusters import k_means, nearest_rows
from errata.features.density import (
    cosine_density,
    cosines,
    densest,
    densest_apart,
    density_peaks,
    distances,
    highest_peaks,
    likeness_to_denser,
    percentile_of_pairs,
)
from errata.features.prototypes import (
    best_scores,
    class_scores,
    correct_labels,
    mean_prototypes,
    select_by_density,
    select_by_k_means,
    select_densest,
    select_density_peaks,
)
from errata.streams import generator


def at_angles(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


FIVE = cosines(at_angles(0, 5, 10, 60, 180))
RHO = torch.tensor([1, 1, 3, -1, -3])


def random_rows(n: int, width: int = 6, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width)))


def test_five_vectors_have_the_densities_worked_out_by_hand():
    assert cosine_density(FIVE, 0.6).tolist() == RHO.tolist()


def test_a_similarity_equal_to_the_cutoff_counts_for_nothing():
    similarity = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert cosine_density(similarity, 0.5).tolist() == [1, 1]
    assert cosine_density(similarity, 0.4).tolist() == [2, 2]
    assert cosine_density(similarity, 0.6).tolist() == [0, 0]


@pytest.mark.parametrize("ties", ["strict", "index"])
def test_five_vectors_have_the_etas_worked_out_by_hand(ties: str):
    eta = likeness_to_denser(FIVE, RHO, ties=ties)
    assert eta.tolist() == pytest.approx([0.9848, 0.9962, -0.9848, 0.6428, -0.5], abs=1e-4)


def test_ties_by_index_see_the_twin_that_the_strict_rule_misses():
    # The two densest are the same vector: the printed formula calls both of them apart.
    similarity = cosines(at_angles(0, 0, 20, 90))
    rho = torch.tensor([2, 2, 0, -2])
    assert likeness_to_denser(similarity, rho, ties="strict")[:2].tolist() == pytest.approx(
        [0.0, 0.0], abs=1e-9
    )
    by_index = likeness_to_denser(similarity, rho, ties="index")
    assert by_index[:2].tolist() == pytest.approx([0.0, 1.0], abs=1e-9)
    kept = {
        ties: densest_apart(rho, likeness_to_denser(similarity, rho, ties=ties), count=2).tolist()
        for ties in ("strict", "index")
    }
    assert kept == {"strict": [0, 1], "index": [0, 2]}


def test_of_five_vectors_each_rule_takes_its_own_two():
    eta = likeness_to_denser(FIVE, RHO, ties="strict")
    assert set(densest_apart(RHO, eta, count=2, cap=0.95).tolist()) == {2, 3}
    assert set(densest(RHO, count=2).tolist()) == {0, 2}
    # What replications of the paper do: the first takes the outlier, the second two twins.
    assert set(eta.argsort()[:2].tolist()) == {2, 4}
    assert eta.argsort(descending=True)[:2].tolist() == [1, 0]


def test_the_cap_is_relaxed_where_too_few_are_apart():
    eta = likeness_to_denser(FIVE, RHO)
    assert densest_apart(RHO, eta, count=4).tolist() == [2, 3, 4, 0]
    assert densest_apart(RHO, eta, count=9).tolist() == [2, 3, 4, 0, 1]
    assert densest_apart(RHO, eta, count=4, cap=2.0).tolist() == densest(RHO, count=4).tolist()


def test_one_row_is_its_own_prototype():
    one = random_rows(1)
    assert likeness_to_denser(cosines(one), torch.tensor([1])).tolist() == [-1.0]
    assert percentile_of_pairs(cosines(one)) == 0.0
    assert density_peaks(distances(one))[1].tolist() == [0.0]
    for found in (
        select_by_density(one, count=3),
        select_densest(one, count=3),
        select_density_peaks(one, count=3),
        select_by_k_means(one, count=3, generator=generator(0)),
    ):
        assert found.chosen.tolist() == [0]


@given(n=st.integers(2, 12), percentile=st.floats(0, 100), seed=st.integers(0, 99))
def test_the_cutoff_is_a_percentile_of_all_entries_off_the_diagonal(
    n: int, percentile: float, seed: int
):
    similarity = cosines(random_rows(n, seed=seed))
    similarity = (similarity + similarity.T) / 2
    rest = similarity[~torch.eye(n, dtype=torch.bool)].numpy()
    ours = percentile_of_pairs(similarity, percentile=percentile)
    assert ours == pytest.approx(np.percentile(rest, percentile), abs=1e-12)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(SettingsError, match=r"percentile `101.0`"):
        percentile_of_pairs(FIVE, percentile=101.0)
    with pytest.raises(SettingsError, match="did you mean `index`"):
        likeness_to_denser(FIVE, RHO, ties="indx")


def slow_eta(similarity: Tensor, rho: Tensor, *, ties: str) -> list[float]:
    eta = []
    for i in range(len(rho)):
        others = [j for j in range(len(rho)) if j != i]
        denser = [j for j in others if rho[j] > rho[i]]
        if ties == "index":
            denser += [j for j in others if rho[j] == rho[i] and j < i]
        likeness = [float(similarity[i, j]) for j in denser]
        eta.append(max(likeness) if denser else min(float(similarity[i, j]) for j in others))
    return eta


@given(n=st.integers(2, 15), seed=st.integers(0, 999), ties=st.sampled_from(["index", "strict"]))
def test_eta_is_what_a_slow_loop_finds(n: int, seed: int, ties: str):
    similarity = cosines(random_rows(n, 2, seed))
    rho = cosine_density(similarity, percentile_of_pairs(similarity))
    eta = likeness_to_denser(similarity, rho, ties=ties)
    assert eta.tolist() == pytest.approx(slow_eta(similarity, rho, ties=ties))


@given(n=st.integers(1, 30), count=st.integers(1, 10), seed=st.integers(0, 99))
def test_prototypes_are_different_rows_below_the_cap_first(n: int, count: int, seed: int):
    found = select_by_density(random_rows(n, 3, seed), count=count, cap=0.8)
    assert len(set(found.chosen.tolist())) == len(found.chosen) == min(n, count)
    apart = found.apart[found.chosen] < 0.8
    assert (apart.long().diff() <= 0).all()
    for group in (apart, ~apart):
        assert (found.density[found.chosen][group].diff() <= 0).all()


def test_prototypes_do_not_depend_on_the_length_of_features():
    rows = random_rows(40)
    lengths = torch.linspace(0.1, 9.0, 40, dtype=torch.float64)[:, None]
    plain, scaled = (select_by_density(each, count=5).chosen for each in (rows, rows * lengths))
    assert plain.tolist() == scaled.tolist()


def test_wrong_rows_are_isolated_and_not_chosen():
    crowd = at_angles(*np.linspace(-20, 20, 30))
    strays = at_angles(*np.linspace(80, 280, 10))
    rows = torch.cat([strays, crowd])
    for found in (
        select_by_density(rows, count=4, percentile=60, cap=0.9999),
        select_densest(rows, count=4),
    ):
        assert (found.chosen >= 10).all()


def peaks_by_loop(x: np.ndarray, cutoff: float) -> tuple[list[int], list[float]]:
    far = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    rho = [(far[i] < cutoff).sum() - 1 for i in range(len(x))]
    order = sorted(range(len(x)), key=lambda i: (-rho[i], i))
    delta = [0.0] * len(x)
    delta[order[0]] = far[order[0]].max()
    for place, i in enumerate(order[1:], start=1):
        delta[i] = min(far[i, j] for j in order[:place])
    return rho, delta


@given(n=st.integers(3, 25), seed=st.integers(0, 99))
def test_density_peaks_are_those_of_a_slow_loop(n: int, seed: int):
    x = random_rows(n, 2, seed)
    cutoff = percentile_of_pairs(distances(x), percentile=20)
    rho, delta = density_peaks(distances(x), percentile=20)
    slow_rho, slow_delta = peaks_by_loop(x.numpy(), cutoff)
    assert rho.tolist() == slow_rho
    assert delta.tolist() == pytest.approx(slow_delta)


def clouds(count: int = 3, each: int = 40) -> Tensor:
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(count, 4)
    return torch.from_numpy(np.concatenate([rng.normal(c, 0.5, (each, 4)) for c in centres]))


def test_density_peaks_find_one_row_in_each_cloud():
    rho, delta = density_peaks(distances(clouds()))
    assert set((highest_peaks(rho, delta, count=3) // 40).tolist()) == {0, 1, 2}
    assert set((select_density_peaks(clouds(), count=3).chosen // 40).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_k_means_ends_where_scikit_learn_ends(seed: int):
    x = random_rows(60, 3, seed)
    # No step at all gives the start, which the other is given too.
    start = k_means(x, count=4, generator=generator(seed), iterations=0)
    ours = k_means(x, count=4, generator=generator(seed))
    theirs = KMeans(4, init=start.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(x.numpy())
    assert torch.cdist(x, ours).argmin(1).tolist() == theirs.labels_.tolist()
    np.testing.assert_allclose(ours.numpy(), theirs.cluster_centers_, atol=1e-9)


def test_k_means_starts_from_different_rows_of_the_data_and_from_its_stream():
    x = clouds()
    starts = [k_means(x, count=5, generator=generator(s), iterations=0) for s in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert all((torch.cdist(s, x).amin(1) == 0).all() for s in starts)
    assert len(starts[0].unique(dim=0)) == 5


def test_k_means_plus_plus_draws_far_rows_first():
    # Squared distances make a row of another cloud 400 times as likely as one of the same.
    x = clouds()
    hits = 0
    for seed in range(40):
        start = k_means(x, count=3, generator=generator(seed), iterations=0)
        hits += len(set((torch.cdist(start, x).argmin(1) // 40).tolist())) == 3
    assert hits >= 36


def test_equal_rows_do_not_stop_k_means():
    centres = k_means(torch.ones(5, 2), count=3, generator=generator(0))
    assert centres.tolist() == [[1.0, 1.0]] * 3
    assert nearest_rows(torch.ones(5, 2), centres).tolist() == [0, 1, 2]


def test_the_nearest_row_of_each_centre_is_taken_once():
    x = torch.tensor([[0.0], [1.0], [5.0]])
    assert nearest_rows(x, torch.tensor([[0.1], [0.2], [4.0]])).tolist() == [0, 1, 2]


def some_prototypes(seed: int = 0) -> tuple[Tensor, Tensor]:
    features = random_rows(40, seed=seed)
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(40)[:12].reshape(3, 4))
    rows[1, 2:] = -1
    return features, rows


@given(seed=st.integers(0, 99))
@settings(max_examples=20)
def test_scores_are_the_mean_of_the_cosines_one_by_one(seed: int):
    features, rows = some_prototypes(seed)
    scores = class_scores(features, mean_prototypes(features, rows))
    best = best_scores(features, rows)
    similarity = cosines(features)
    for label in range(3):
        mine = similarity[:, rows[label][rows[label] >= 0]]
        torch.testing.assert_close(scores[:, label], mine.mean(1))
        torch.testing.assert_close(best[:, label], mine.amax(1))


def test_the_maximum_over_prototypes_is_not_the_mean():
    features, rows = some_prototypes()
    mean = class_scores(features, mean_prototypes(features, rows))
    best = best_scores(features, rows)
    assert (best >= mean - 1e-12).all()
    assert (best.argmax(1) != mean.argmax(1)).any()


def test_a_class_without_prototypes_is_never_proposed():
    features, rows = some_prototypes()
    rows[2] = -1
    for scores in (
        class_scores(features, mean_prototypes(features, rows)),
        best_scores(features, rows),
    ):
        assert (scores[:, 2] == -math.inf).all()
        assert scores[:, :2].isfinite().all()


def test_a_row_of_zeros_is_like_nothing():
    features, rows = some_prototypes()
    features[39] = 0.0
    rows = rows.where(rows != 39, 0)
    assert class_scores(features, mean_prototypes(features, rows))[39].tolist() == [0.0] * 3


def test_labels_change_to_the_best_class_where_it_leads_enough():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.6, 0.5, 0.1], [0.2, 0.3, 0.8], [0.4, 0.4, 0.1]])
    labels = torch.tensor([1, 1, 2, 1])
    corrected, lead = correct_labels(scores, labels)
    assert corrected.tolist() == [0, 0, 2, 1]
    assert lead.tolist() == pytest.approx([0.4, 0.1, -0.5, 0.0])
    assert correct_labels(scores, labels, margin=0.2)[0].tolist() == [0, 1, 2, 1]


@given(seed=st.integers(0, 99))
def test_without_a_margin_the_best_class_wins(seed: int):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.uniform(-1, 1, (20, 4)))
    labels = torch.from_numpy(rng.integers(0, 4, 20))
    corrected, lead = correct_labels(scores, labels)
    assert torch.equal(corrected, scores.argmax(1))
    assert torch.equal(lead > 0, corrected != labels)


def test_of_equally_near_rows_the_first_stands_for_a_centre():
    # Rounding alone makes the second row nearer to the middle of the two.
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert nearest_rows(x, torch.tensor([[0.5 + 1e-12]], dtype=torch.float64)).tolist() == [0]
    assert nearest_rows(x, torch.tensor([[0.51]], dtype=torch.float64)).tolist() == [1]
