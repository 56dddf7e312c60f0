"""Labels of any form become class numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.data.classes import class_numbers, match_classes, name_numbers, sorted_names
from errata.errors import SourceError


def numbers(y, classes=None, match=None):
    y = np.asarray(y)
    ids = [f"r{row}" for row in range(len(y))]
    given, names = class_numbers(y, ids=ids, classes=classes, match=match, where="`y`")
    return given.tolist(), names


def named(names, match=None):
    ids = [f"r{row}" for row in range(len(names))]
    given, classes = name_numbers(names, ids=ids, match=match, where="`label`")
    return given.tolist(), classes


def test_numbers_without_names_become_classes_named_by_number():
    assert numbers([7, 3, -1, 7]) == ([1, 0, -1, 1], ("3", "7"))


def test_numbers_count_the_names():
    assert numbers([1, 0, -1], classes=["cat", "dog"]) == ([1, 0, -1], ("cat", "dog"))


def test_whole_floats_and_booleans_are_numbers():
    assert numbers([0.0, 1.0])[0] == [0, 1]
    assert numbers([True, False])[0] == [1, 0]


def test_text_labels_are_class_names():
    assert numbers(["dog", "", "cat"]) == ([1, -1, 0], ("cat", "dog"))


def test_numbers_are_matched_by_name_where_classes_are_numbers():
    # Training saw the classes 1 to 3; the label 1 of a test set is the class "1", not the second.
    assert numbers([1, 3], match=("1", "2", "3")) == ([0, 2], ("1", "2", "3"))


def test_numbers_count_the_classes_to_match_where_these_have_names():
    assert numbers([1, 0], match=("cat", "dog")) == ([1, 0], ("cat", "dog"))


def test_own_names_are_matched_by_name():
    assert numbers([0, 1], classes=["dog", "cat"], match=("cat", "dog"))[0] == [1, 0]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0.0, np.nan], r"1 labels that are no whole numbers, first `nan` in the row with id `r1`"),
        ([0.5, 1.0], r"first `0.5` in the row with id `r0`"),
        ([0, np.inf], "first `inf`"),
        ([0, -2], r"1 labels out of range, first `-2` in the row with id `r1`"),
        ([1j, 0], "complex"),
    ],
)
def test_bad_numbers_are_named_with_their_row(y, words):
    with pytest.raises(SourceError, match=words):
        numbers(y)


def test_number_beyond_the_names_is_out_of_range():
    with pytest.raises(SourceError, match=r"first `2` in the row with id `r1`.*allowed: 0 to 1"):
        numbers([0, 2], classes=["cat", "dog"])


def test_class_name_twice_is_refused():
    with pytest.raises(SourceError, match="`cat` twice"):
        numbers([0, 1], classes=["cat", "cat"])


def test_names_that_are_numbers_are_sorted_as_numbers():
    assert named(["10", "9", "-1", "", "1.0"]) == ([2, 1, -1, -1, 0], ("1", "9", "10"))


def test_names_are_sorted_as_text_where_one_is_no_number():
    assert sorted_names({"10", "9", "x", ""}) == ["10", "9", "x"]


def test_nan_among_numbers_is_refused_but_may_be_a_word():
    with pytest.raises(SourceError, match="label `nan` in the row with id `r1`"):
        named(["1", "nan"])
    assert named(["naan", "nan"])[1] == ("naan", "nan")


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(SourceError, match=r"first `dgo` in the row with id `r1`") as caught:
        named(["cat", "dgo"], match=["cat", "dog"])
    assert caught.value.hint == "did you mean `dog`?"


def test_class_without_rows_need_not_be_matched():
    given, _ = match_classes(np.array([0, -1]), ["cat", "newt"], ["dog", "cat"], where="`t`")
    assert given.tolist() == [1, -1]


def test_class_that_training_has_not_is_refused():
    with pytest.raises(SourceError, match="first `newt`; allowed: `dog`, `cat`"):
        match_classes(np.array([0, 1]), ["cat", "newt"], ["dog", "cat"], where="`t`")


@given(st.lists(st.integers(-1, 20), min_size=1, max_size=40))
def test_class_names_tell_the_numbers_they_came_from(y):
    given, names = numbers(y)
    assert [int(names[number]) if number >= 0 else -1 for number in given] == y
