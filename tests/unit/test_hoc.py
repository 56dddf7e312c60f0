"""HOC: exact cases by hand, recovery from exact consensus, and from well separated features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from errata.blocks import blocks_of
from errata.detect.hoc import (
    consensus_counts,
    estimate_by_consensus,
    estimate_by_neighbours,
    expected_consensus,
)
from errata.detect.neighbours import labelled_neighbours
from errata.errors import SettingsError

UNIFORM = np.eye(3) * 0.7 + 0.1
PAIRED = np.array([[0.7, 0.3, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.9]])


def draw(T: np.ndarray, *, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw well separated features, true classes and labels by T."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, len(T), rows)
    features = 10 * np.eye(len(T))[true] + rng.normal(size=(rows, len(T)))
    given = (rng.random((rows, 1)) > T[true].cumsum(1)).sum(1).clip(0, len(T) - 1)
    return features, true, given


def test_labels_of_four_rows_are_counted_by_hand():
    near = np.array([[1, 2], [0, 2], [1, 0], [2, 1]])
    counts = consensus_counts(near, np.array([0, 0, 1, 1]), classes=2)
    assert counts.first.tolist() == [0.5, 0.5]
    assert counts.second.tolist() == [[0.5, 0.0], [0.25, 0.25]]
    assert counts.third.tolist() == [[[0.0, 0.5], [0.0, 0.0]], [[0.25, 0.0], [0.25, 0.0]]]


def test_rows_without_a_label_do_not_count():
    near = np.array([[1, 2], [0, 2], [1, 0], [2, 1]])
    counts = consensus_counts(near, np.array([0, 0, 1, -1]), classes=2)
    torch.testing.assert_close(counts.first, torch.tensor([2 / 3, 1 / 3]).double())


def test_consensus_of_two_classes_by_hand():
    T = torch.tensor([[0.75, 0.25], [0.0, 1.0]]).double()
    found = expected_consensus(T, torch.tensor([0.5, 0.5]).double())
    assert found.first.tolist() == [0.375, 0.625]
    # Both labels 0: only true class 0, .5 * .75 squared.
    assert found.second.tolist() == [[0.28125, 0.09375], [0.09375, 0.53125]]
    assert found.third[0, 0].tolist() == [0.5 * 0.75**3, 0.5 * 0.75**2 * 0.25]
    assert found.third[1, 1, 1].item() == 0.5 * 0.25**3 + 0.5


def test_consensus_adds_up_to_that_of_fewer_rows():
    T = torch.from_numpy(PAIRED)
    found = expected_consensus(T, torch.tensor([0.5, 0.3, 0.2]).double())
    torch.testing.assert_close(found.third.sum(2), found.second)
    torch.testing.assert_close(found.second.sum(1), found.first)
    torch.testing.assert_close(found.third, found.third.permute(2, 0, 1))


@pytest.mark.parametrize("T", [np.eye(3), UNIFORM, PAIRED], ids=["clean", "uniform", "paired"])
def test_an_exact_consensus_gives_back_the_matrix_and_the_prior(T: np.ndarray):
    prior = torch.tensor([0.5, 0.3, 0.2]).double()
    found, share, misfit = estimate_by_consensus(expected_consensus(torch.from_numpy(T), prior))
    # Zeros are the limits of softmaxes, so they are reached to about this.
    torch.testing.assert_close(found, torch.from_numpy(T), atol=1e-3, rtol=0)
    torch.testing.assert_close(share, prior, atol=1e-3, rtol=0)
    assert misfit < 1e-4


@pytest.mark.parametrize("T", [UNIFORM, PAIRED], ids=["uniform", "paired"])
@pytest.mark.parametrize("seed", [0, 1])
def test_well_separated_features_give_the_matrix_to_a_twentieth(T: np.ndarray, seed: int):
    features, true, given = draw(T, rows=6000, seed=seed)
    near = labelled_neighbours(blocks_of(features, "features"), given, k=2)
    found = estimate_by_neighbours(near, given, classes=3)
    # The mean over rows of the sum of absolute differences.
    assert np.abs(found.T - T).sum(1).mean() < 0.05
    assert np.abs(found.prior - np.bincount(true) / len(true)).max() < 0.02
    assert abs(found.rate - (given != true).mean()) < 0.02


def test_clean_labels_are_found_clean():
    features, true, _ = draw(UNIFORM, rows=900, seed=3)
    near = labelled_neighbours(blocks_of(features, "features"), true, k=2)
    assert estimate_by_neighbours(near, true, classes=3).rate < 1e-3


def test_names_of_the_classes_follow_the_labels():
    order = [2, 0, 1]
    features, _, given = draw(PAIRED, rows=2000, seed=5)
    near = labelled_neighbours(blocks_of(features, "features"), given, k=2)
    plain = estimate_by_neighbours(near, given, classes=3)
    renamed = estimate_by_neighbours(near, np.array(order)[given], classes=3)
    assert renamed.T[np.ix_(order, order)] == pytest.approx(plain.T, abs=1e-3)


@pytest.mark.parametrize(
    ("near", "given", "classes", "words"),
    [
        (np.zeros((3, 2), np.int64), np.zeros(3, np.int64), 201, "`201` classes"),
        (np.zeros((3, 1), np.int64), np.zeros(3, np.int64), 2, r"shape `\(3, 1\)`"),
        (np.zeros((3, 2), np.int64), np.full(3, -1), 2, "three labelled rows"),
    ],
)
def test_what_cannot_be_counted_is_refused(near, given, classes: int, words: str):
    with pytest.raises(SettingsError, match=words):
        consensus_counts(near, given, classes=classes)
