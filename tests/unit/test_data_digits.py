"""The digits that need no file."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from errata.data import describe, open_source
from errata.errors import SourceError


def test_digits_are_split_in_five_without_loss():
    opened = open_source("digits")
    train, test = opened.train, opened.tests["test"]
    assert (len(train.ids), len(test.ids)) == (1438, 359)
    assert sorted([*train.ids, *test.ids], key=int) == [str(row) for row in range(1797)]
    assert train.classes == tuple("0123456789")
    assert opened.truth is None


def test_every_class_gives_a_fifth():
    opened = open_source("digits", seed=3)
    held = np.bincount(opened.tests["test"].given)
    share = held / (held + np.bincount(opened.train.given))
    assert share == pytest.approx(0.2, abs=0.003)


def test_split_depends_on_the_seed_alone():
    first, again, other = (open_source("digits", seed=seed) for seed in (0, 0, 1))
    assert first.tests["test"].ids == again.tests["test"].ids
    assert first.tests["test"].ids != other.tests["test"].ids


def test_pixels_and_labels_are_those_of_scikit_learn():
    train = open_source("digits").train
    content = load_digits()
    rows = np.array([int(key) for key in train.ids])
    assert (train.given == content.target[rows]).all()
    scaled = np.rint(content.images[rows] * 255 / 16)
    assert (train.pixels(np.arange(len(rows))).numpy()[:, 0] == scaled).all()


def test_limit_is_stratified_and_leaves_the_test_set_alone():
    opened = open_source("digits", limit=100, seed=1)
    assert np.bincount(opened.train.given).tolist() == [10] * 10
    assert opened.train.ids != open_source("digits", limit=100, seed=2).train.ids
    assert len(opened.tests["test"].ids) == 359


def test_description_is_one_line():
    assert describe(open_source("digits", limit=50)) == (
        "digits: 50 rows, 10 classes, 1 x 8 x 8; test 359"
    )


def test_digits_match_other_classes_by_name():
    names = tuple("9876543210")
    train = open_source("digits", classes=names).train
    plain = open_source("digits").train
    assert train.given.tolist() == [9 - number for number in plain.given]
    with pytest.raises(SourceError, match="first `0`"):
        open_source("digits", classes=("cat", "dog"))
