"""Probabilities of other people's models: scores by hand, and what is refused or warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.blocks import blocks_of, iterate, vector_of
from errata.detect.pointwise import SCORES, log_ratio, normalised_margin, self_confidence
from errata.detect.probabilities import scan
from errata.errors import SourceError

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
GIVEN = np.array([0, 2, 2, -1])


def model(rows: int = 300, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 2 * np.eye(classes)[given]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), given


def test_one_pass_keeps_what_scores_need():
    found = scan(blocks_of(PROBS, "probs"), GIVEN)
    assert found.given_prob[:3] == pytest.approx([0.7, 0.3, 0.5])
    assert found.other_prob[:3] == pytest.approx([0.2, 0.6, 0.25])
    assert found.other.tolist() == [1, 1, 0, -1]
    assert found.top.tolist() == [0, 1, 2, 2]
    assert np.isnan(found.given_prob[3])
    assert found.usable.tolist() == [True, True, True, False]
    assert found.entropy[2] == pytest.approx(1.5 * np.log(2))
    assert found.class_sum[2] == pytest.approx([0.35, 0.85, 0.8])


def test_scores_by_hand():
    own, other = np.array([0.7, 0.3]), np.array([0.2, 0.6])
    assert self_confidence(own) == pytest.approx([0.3, 0.7])
    assert normalised_margin(own, other) == pytest.approx([0.25, 0.65])
    assert log_ratio(own, other) == pytest.approx([2 / 9, 2 / 3])
    assert log_ratio(np.zeros(1), np.zeros(1)).tolist() == [0.5]


@pytest.mark.parametrize("name", SCORES)
def test_scores_lie_between_nought_and_one_and_are_nan_where_nothing_is_known(name: str):
    probs, given = model()
    given[:5] = -1
    score = SCORES[name](scan(blocks_of(probs, "probs"), given))
    assert np.isnan(score[:5]).all()
    assert ((score[5:] >= 0) & (score[5:] <= 1)).all()


@drawn(st.integers(1, 400))
def test_the_size_of_a_block_changes_nothing(values: int):
    probs, _ = model(rows=50)
    parts = [part for _, part in iterate(blocks_of(probs, "probs"), values=values)]
    assert (np.concatenate(parts) == probs).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_files_are_read_in_blocks_to_the_same_numbers(dtype: str, tmp_path: Path):
    probs, given = model()
    path = tmp_path / "probs.npy"
    np.save(path, probs.astype(dtype))
    there, here = scan(blocks_of(path, ""), given), scan(blocks_of(probs.astype(dtype), ""), given)
    assert (there.given_prob == here.given_prob).all()
    assert there.warnings == here.warnings == ()


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        torch.from_numpy,
        lambda p: torch.from_numpy(p).to(torch.bfloat16),
        lambda p: torch.from_numpy(p).requires_grad_(),
    ],
)
def test_tables_of_many_kinds_are_taken(convert):
    table = blocks_of(convert(PROBS), "probs")
    assert table.shape == (4, 3)
    assert next(iter(iterate(table)))[1] == pytest.approx(PROBS, abs=4e-3)


def test_arrow_tables_are_taken():
    pyarrow = pytest.importorskip("pyarrow")
    assert vector_of(pyarrow.array([1, 2, 0]), "labels").tolist() == [1, 2, 0]
    assert vector_of(pyarrow.chunked_array([[1], [2, 0]]), "labels").tolist() == [1, 2, 0]
    table = pyarrow.table({name: PROBS[:, i] for i, name in enumerate("abc")})
    assert blocks_of(table, "probs").read(1, 3).tolist() == PROBS[1:3].tolist()


def test_data_frames_are_taken():
    pandas = pytest.importorskip("pandas")
    assert blocks_of(pandas.DataFrame(PROBS), "probs").shape == (4, 3)
    assert vector_of(pandas.Series([1, 2]), "labels").tolist() == [1, 2]


LOGITS = np.array([[3.0, -2.0, 0.0], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6], [1, 0, 0]])


@pytest.mark.parametrize(
    ("probs", "given", "words"),
    [
        (PROBS, GIVEN[:3], "3 labels for 4 rows"),
        (PROBS, np.array([0, 1, 3, 0]), "label `3` .* no column"),
        (PROBS, np.array([0, 1, -2, 0]), "label `-2` .* no column"),
        (PROBS, np.array([0, 1, 0.5, 0]), "type `float64`"),
        (PROBS, np.array(["a", "b", "c", "a"]), "class numbers 0 to 2"),
        (LOGITS, GIVEN, "row 0 .* holds `-2` to `3`"),
        (PROBS * 0.9, GIVEN, "row 0 .* sums to `0.9`"),
        (np.full((4, 3), 1 / 3), GIVEN, "all 4 rows .* are alike"),
        (PROBS[:1], GIVEN[:1], "all 1 rows .* are alike"),
        (np.full((4, 3), np.nan), GIVEN, "no row that is labelled"),
        (PROBS, np.full(4, -1), "no row that is labelled"),
        (np.ones((4, 1)), np.zeros(4, int), "has 1 column"),
        (PROBS[0], GIVEN, r"shape `\(3,\)`"),
        (np.zeros((4, 3), int), GIVEN, "numbers of type `int64`"),
        ([[0.5, 0.5], [1.0]], GIVEN, "no regular array"),
    ],
)
def test_what_would_give_a_wrong_list_is_refused(probs, given: np.ndarray, words: str):
    with pytest.raises(SourceError, match=words):
        scan(blocks_of(probs, "probs"), vector_of(given, "labels"))


def test_half_precision_may_stray_from_one_by_its_rounding():
    rounded = (PROBS * 1.015).astype(np.float16)
    assert scan(blocks_of(rounded, "probs"), GIVEN).usable.sum() == 3
    with pytest.raises(SourceError, match="sums to"):
        scan(blocks_of(rounded.astype(np.float32), "probs"), GIVEN)


def codes(probs: np.ndarray, given: np.ndarray) -> list[str]:
    return [warned.code for warned in scan(blocks_of(probs, "probs"), given).warnings]


def test_rows_that_are_no_numbers_are_left_out_and_told_of():
    probs, given = model()
    whole = scan(blocks_of(probs, "probs"), given)
    probs[7] = np.nan
    found = scan(blocks_of(probs, "probs"), given)
    assert codes(probs, given) == ["nan_rows"]
    assert np.isnan(found.given_prob[7])
    others = np.arange(300) != 7
    assert (found.given_prob[others] == whole.given_prob[others]).all()


def test_shuffled_columns_are_told_of_and_a_weak_model_is_not():
    probs, given = model()
    assert codes(probs, given) == []
    assert codes(probs[:, [1, 2, 3, 0]], given) == ["shuffled_columns"]
    weak = 0.9 / 4 + 0.1 * probs
    assert codes(weak / weak.sum(1, keepdims=True), given) == []


def test_memorised_probabilities_are_told_of():
    probs, given = model()
    memorised = 0.02 / 4 + 0.98 * np.eye(4)[given]
    assert codes(memorised + 1e-9 * probs, given) == ["in_sample"]


def test_classes_without_labels_are_told_of():
    probs, given = model()
    given[given == 3] = -1
    assert codes(probs, given) == ["empty_class"]


def test_files_that_cannot_be_read_are_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="cannot be read"):
        blocks_of(tmp_path / "none.npy", "")
    (tmp_path / "text.npy").write_text("no table")
    with pytest.raises(SourceError, match="no npy file"):
        blocks_of(tmp_path / "text.npy", "")
    np.save(tmp_path / "columns.npy", np.asfortranarray(PROBS))
    with pytest.raises(SourceError, match="column by column"):
        blocks_of(tmp_path / "columns.npy", "")


def test_a_file_that_is_cut_off_or_shrinks_is_refused(tmp_path: Path):
    path = tmp_path / "probs.npy"
    np.save(path, PROBS)
    table = blocks_of(path, "")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(SourceError, match="ends after"):
        table.read(0, 4)
    with pytest.raises(SourceError, match="ends after"):
        blocks_of(path, "")
