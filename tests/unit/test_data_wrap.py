"""Wrapped sources, and choices that keep the share of each class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.data import Arrays, Relabelled, Subset, stratified_rows
from errata.types import Source


@pytest.fixture
def source():
    x = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    ids = ["a", "b", "c", "d"]
    return Arrays(x, np.array([0, 1, 0, -1]), classes=("no", "yes"), ids=ids, name="toy")


def test_relabelled_changes_the_labels_alone(source):
    other = Relabelled(source, np.array([1, 1, 1, 0]), name="noisy")
    assert isinstance(other, Source)
    assert other.given.tolist() == [1, 1, 1, 0]
    assert source.given.tolist() == [0, 1, 0, -1]
    assert (other.name, other.ids, other.shape) == ("noisy", source.ids, (1, 2, 2))
    assert other.pixels(np.array([2])).unique().item() == 2
    assert other.show(1) == source.show(1)


def test_subset_numbers_rows_anew(source):
    other = Subset(Subset(source, np.array([3, 2, 0])), np.array([1, 0]))
    assert isinstance(other, Source)
    assert other.ids == ["c", "d"]
    assert other.given.tolist() == [0, -1]
    assert other.pixels(np.array([0, 1]))[:, 0, 0, 0].tolist() == [2, 3]
    assert other.show(0) == source.show(2)
    assert other.name == "toy"


def test_strata_are_rounded_by_largest_remainder():
    given = np.repeat([0, 1, 2], [50, 30, 20])
    rows = stratified_rows(given, 11, np.random.default_rng(0))
    # Shares 5.5, 3.3 and 2.2: the one row that is left goes to the first class.
    assert np.bincount(given[rows]).tolist() == [6, 3, 2]


def test_rare_class_keeps_a_row():
    given = np.repeat([0, 1], [990, 10])
    rows = stratified_rows(given, 10, np.random.default_rng(0))
    assert np.bincount(given[rows]).tolist() == [9, 1]


@given(
    st.lists(st.integers(-1, 4), min_size=1, max_size=60),
    st.integers(0, 70),
    st.integers(0, 5),
)
def test_choice_is_exact_sorted_and_repeatable(labels, count, seed):
    labels = np.array(labels)
    rows = stratified_rows(labels, count, np.random.default_rng(seed))
    assert len(rows) == min(count, len(labels))
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == stratified_rows(labels, count, np.random.default_rng(seed)).tolist()
    present = np.unique(labels)
    if count >= len(present):
        assert set(labels[rows]) == set(present)
