"""Ids are unique, plain text on one line, and lead back to the file name."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.data.ids import check_ids, text_id, user_ids
from errata.errors import SourceError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cats/a b.png", "cats/a b.png"),
        ('a,"b"<script>.png', 'a,"b"<script>.png'),
        ("caf\u00e9.png", "caf\u00e9.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf%E9.png"),
        ("tab\there", "tab%09here"),
        ("two\u2028lines", "two%E2%80%A8lines"),
        ("100%.png", "100%.png"),
        ("50%20.png", "50%2520.png"),
    ],
)
def test_id_of_a_name(name, expected):
    assert text_id(name) == expected


@given(st.binary(max_size=30))
def test_id_leads_back_to_the_bytes_of_any_name(raw):
    identity = text_id(os.fsdecode(raw))
    assert unquote_to_bytes(identity) == raw
    assert len(identity.splitlines()) <= 1


@given(st.lists(st.binary(max_size=6), unique=True))
def test_different_names_have_different_ids(names):
    assert len({text_id(os.fsdecode(name)) for name in names}) == len(names)


def test_chosen_ids_stay_as_they_are_written():
    assert check_ids(["a%20b", "x y"], where="`t`") == ["a%20b", "x y"]


def test_ids_default_to_row_numbers():
    assert user_ids(None, count=3, where="`t`") == ["0", "1", "2"]


def test_whole_numbers_and_bytes_serve_as_ids():
    assert user_ids(np.array([7, 9]), count=2, where="`t`") == ["7", "9"]
    assert user_ids(np.array([b"a", b"\xe9"]), count=2, where="`t`") == ["a", "%E9"]


def test_duplicate_id_is_named():
    with pytest.raises(SourceError, match=r"id `b` twice, in rows 1 and 2"):
        check_ids(["a", "b", "b"], where="`t`")


def test_empty_id_is_refused():
    with pytest.raises(SourceError, match="empty id in row 1"):
        check_ids(["a", ""], where="`t`")


@pytest.mark.parametrize("ids", [np.array(["a"]), np.array([0.5, 1.5]), np.array([["a", "b"]])])
def test_ids_of_another_length_or_type_are_refused(ids):
    with pytest.raises(SourceError, match="`ids`"):
        user_ids(ids, count=2, where="`t`")
