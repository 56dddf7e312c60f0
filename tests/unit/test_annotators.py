"""Several annotators: votes by hand, a known set of annotators, and raters of real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.detect.annotators import dawid_skene, majority
from errata.errors import SettingsError, SourceError


def crowd(
    rows: int, accuracies: list[float], classes: int = 3, asked: float = 0.8
) -> tuple[np.ndarray, np.ndarray]:
    """Votes [N, A] of annotators who err evenly, and the true classes [N]."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, rows)
    votes = np.full((rows, len(accuracies)), -1)
    for each, accuracy in enumerate(accuracies):
        other = (true + rng.integers(1, classes, rows)) % classes
        said = np.where(rng.random(rows) < accuracy, true, other)
        votes[:, each] = np.where(rng.random(rows) < asked, said, -1)
    return votes, true


def test_majority_by_hand():
    votes = np.array([[0, 1, 1], [2, 2, 0], [1, 0, -1], [-1, -1, -1]])
    assert majority(votes).tolist() == [1, 2, 0, -1]


def test_answers_that_are_no_class_never_win():
    votes = np.array([[2, 2, 1], [0, 2, 2], [2, 2, 2]])
    assert majority(votes, 2, answers=3).tolist() == [1, 0, -1]
    labels = dawid_skene(votes, 2, answers=3).labels
    assert set(labels.tolist()) <= {-1, 0, 1}


def test_annotators_who_agree_are_believed():
    votes = np.array([[0, 0], [1, 1], [2, 2]]).repeat(5, axis=0)
    found = dawid_skene(votes)
    assert found.labels.tolist() == votes[:, 0].tolist()
    assert found.prior == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_good_annotators_outweigh_many_poor_ones():
    votes, true = crowd(2000, [0.95, 0.9, 0.4, 0.4, 0.4, 0.4])
    found = dawid_skene(votes)
    voted = (votes >= 0).any(1)
    assert (found.labels == true)[voted].mean() > (majority(votes) == true)[voted].mean() + 0.05


def test_how_well_annotators_do_is_found():
    accuracies = [0.95, 0.8, 0.6, 0.9]
    votes, _ = crowd(3000, accuracies)
    assert dawid_skene(votes).accuracy == pytest.approx(accuracies, abs=0.04)


@drawn(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 4))
def test_probabilities_sum_to_one_wherever_somebody_voted(seed: int, annotators: int, classes: int):
    votes = np.random.default_rng(seed).integers(-1, classes, (30, annotators))
    votes[0, 0] = 0
    found = dawid_skene(votes, classes, rounds=20)
    voted = (votes >= 0).any(1)
    assert np.isnan(found.probs[~voted]).all()
    assert (found.labels[~voted] == -1).all()
    assert found.probs[voted].sum(1) == pytest.approx(np.ones(voted.sum()))
    assert found.confusion.sum(2) == pytest.approx(np.ones((annotators, classes)))


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        (np.array([0, 1]), "shape"),
        (np.array([[0.5, 1.0]]), "type `float64`"),
        (np.array([[0, -2]]), "hold `-2`"),
        (np.array([[-1, -1]]), "no class at all"),
    ],
)
def test_what_is_no_table_of_votes_is_refused(votes: np.ndarray, words: str):
    for rule in (majority, dawid_skene):
        with pytest.raises(SourceError, match=words):
            rule(votes)


def test_classes_beyond_the_named_ones_are_refused():
    with pytest.raises(SourceError, match="hold `3`"):
        majority(np.array([[0, 3]]), 3)


@pytest.mark.parametrize("values", [{"rounds": 0}, {"borrow": -1.0}])
def test_settings_out_of_range_are_refused(values: dict):
    with pytest.raises(SettingsError, match="allowed"):
        dawid_skene(np.array([[0, 1]]), **values)


def test_five_raters_do_no_worse_than_their_majority(shared_data: Path):
    file = shared_data / "crowd" / "imagenet_real_raters.npz"
    if not file.exists():
        pytest.skip(f"`{file}` is missing")
    table = np.load(file)
    # Experts never settle on "maybe" (1), so it is an answer, but no class.
    order = np.array([0, 2, 1])

    def votes(item: str, rater: str, vote: str, rows: int) -> np.ndarray:
        found = np.full((rows, int(table[rater].max()) + 1), -1)
        found[table[item], table[rater]] = order[table[vote]]
        return found

    everyone = votes("item", "rater", "vote", len(table["item_image"]))
    experts = votes("expert_item", "expert", "expert_vote", len(table["golden_item_image"]))
    key = table["item_image"].astype(np.int64) * 1000 + table["item_class"]
    checked = table["golden_item_image"].astype(np.int64) * 1000 + table["golden_item_class"]
    sorted_rows = np.argsort(key)
    rows = sorted_rows[np.searchsorted(key[sorted_rows], checked)]
    true = majority(experts, 2, answers=3)
    plain = (majority(everyone, 2, answers=3)[rows] == true).mean()
    found = dawid_skene(everyone, 2, answers=3, rounds=15)
    assert (found.labels[rows] == true).mean() >= plain + 0.01
