"""What verdicts say together: corrected labels, verification labels, minutes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.errors import SettingsError
from errata.review.journal import FILE_NAME, Journal, Verdict
from errata.review.verdicts import Correction, corrected_labels, minutes, rulings, verification

CLASSES = ("cat", "dog", "lynx")
_UIDS: Iterator[int] = count()


def votes(row: int, **said: str) -> dict[int, dict[str, Verdict]]:
    """One row: who said what, where the name of a class is a relabelling."""
    by = {}
    for who, word in said.items():
        label = word if word in CLASSES else None
        verdict = "relabel" if label else word
        uid = f"u{next(_UIDS)}"
        by[who] = Verdict(uid, row, f"{row}.jpg", verdict, label, reviewer=who)
    return {row: by}


@pytest.mark.parametrize(
    ("said", "verdict", "label", "who", "known"),
    [
        ({"a": "keep"}, "keep", None, ("a",), 1),
        ({"a": "dog"}, "relabel", "dog", ("a",), 0),
        ({"a": "drop"}, "drop", None, ("a",), 0),
        ({"a": "unsure"}, "unsure", None, ("a",), -1),
        ({"b": "dog", "a": "dog", "c": "keep"}, "relabel", "dog", ("a", "b"), 0),
        ({"a": "dog", "b": "unsure", "c": "unsure"}, "relabel", "dog", ("a",), 0),
        ({"a": "dog", "b": "keep"}, "unsure", None, ("a", "b"), -1),
        ({"a": "dog", "b": "cat"}, "unsure", None, ("a", "b"), 0),
        ({"a": "dog", "b": "cat", "c": "keep"}, "unsure", None, ("a", "b", "c"), 0),
        ({"a": "dog", "b": "drop", "c": "dog"}, "relabel", "dog", ("a", "c"), 0),
        ({"a": "keep", "b": "keep", "c": "dog", "d": "cat"}, "keep", None, ("a", "b"), -1),
        ({"a": "keep", "b": "keep", "c": "drop"}, "keep", None, ("a", "b"), 1),
    ],
)
def test_most_votes_decide_and_ties_are_unsure(
    said: dict[str, str], verdict: str, label: str | None, who: tuple[str, ...], known: int
):
    current = votes(1, **said)
    ruling = rulings(current, CLASSES)[1]
    assert (ruling.verdict, ruling.label, ruling.reviewers) == (verdict, label, who)
    assert ruling.votes == len(who)
    assert verification(current, 3).tolist() == [-1, known, -1]


def test_only_changes_are_corrections():
    current = {
        **votes(5, a="drop"),
        **votes(2, a="lynx", b="lynx"),
        **votes(3, a="keep"),
        **votes(4, a="unsure"),
        **votes(6, a="cat", b="keep"),
    }
    assert corrected_labels(current, CLASSES) == {
        2: Correction("lynx", ("a", "b"), 2),
        5: Correction(None, ("a",), 1),
    }


def test_a_correction_unpacks_as_label_reviewers_and_votes():
    label, reviewers, number = corrected_labels(votes(2, a="dog"), CLASSES)[2]
    assert (label, reviewers, number) == ("dog", ("a",), 1)


def test_no_verdicts_say_nothing():
    assert rulings({}, CLASSES) == {}
    assert rulings({3: {}}, CLASSES) == {}
    assert verification({}, 2).tolist() == [-1, -1]
    assert verification({}, 0).dtype == np.int8
    assert minutes([]) == 0.0


def test_an_unknown_class_is_named_with_the_nearest():
    with pytest.raises(SettingsError, match="class `lynx` is unknown; allowed: lynxes"):
        corrected_labels(votes(2, a="lynx"), ["lynxes"])


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_beyond_the_audit_is_refused(row: int):
    with pytest.raises(SettingsError, match=f"row `{row}`; allowed: 0 to 2"):
        verification(votes(row, a="keep"), 3)


def test_minutes_count_what_was_undone_too():
    seen = [
        Verdict("u1", 0, "a", "keep", seconds=30.0),
        Verdict("u2", 0, "a", "undo", seconds=None),
        Verdict("u3", 0, "a", "drop", seconds=60.0),
    ]
    assert minutes(seen) == 1.5
    assert minutes([Verdict(f"u{n}", 0, "a", "keep", seconds=0.1) for n in range(600)]) == 1.0


def test_an_undone_verdict_says_nothing(tmp_path: Path):
    with Journal(tmp_path / FILE_NAME, audit="9f2c") as journal:
        for uid, verdict, label in (("u1", "relabel", "dog"), ("u2", "undo", None)):
            journal.add(Verdict(uid, 1, "1.jpg", verdict, label, reviewer="ada"))
        assert corrected_labels(journal.current(), CLASSES) == {}
        assert verification(journal.current(), 2).tolist() == [-1, -1]


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.sampled_from(("keep", "drop", "unsure", *CLASSES))
    )
)
def test_the_order_of_reviewers_does_not_matter(said: dict[str, str]):
    there = votes(0, **said)
    back = {0: dict(reversed(there[0].items()))}
    assert rulings(there, CLASSES) == rulings(back, CLASSES)
    assert (verification(there, 1) == verification(back, 1)).all()


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.sampled_from(("keep", "drop", "unsure", *CLASSES))
    )
)
def test_what_is_corrected_was_never_found_right_by_most(said: dict[str, str]):
    current = votes(0, **said)
    # Keeping may lose to one class and still have half of the votes or fewer, never more.
    if corrected_labels(current, CLASSES):
        assert verification(current, 1)[0] != 1
