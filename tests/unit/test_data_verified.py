"""Verification labels: what a person found of given labels, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errata.data.samples import open_samples
from errata.data.verified import Verified
from errata.errors import SourceError


def write(folder: Path, text: str) -> str:
    path = folder / "seen.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def verified_of(folder: Path, text: str, **rest: str) -> np.ndarray:
    samples = open_samples("digits", verified=write(folder, text), **rest)
    assert samples.verified is not None
    return samples.verified


def test_judgements_are_joined_by_id(tmp_path: Path):
    ids = open_samples("digits").source.ids
    found = verified_of(tmp_path, f"id,is_correct\n{ids[7]},1\n{ids[2]},no\n{ids[5]},\n")
    assert found[[2, 5, 7]].tolist() == [0, -1, 1]
    assert (np.delete(found, [2, 5, 7]) == -1).all()


def test_labels_are_compared_with_the_given_ones(tmp_path: Path):
    source = open_samples("digits").source
    own, other = source.given[0], (source.given[1] + 1) % 10
    found = verified_of(tmp_path, f"id,label\n{source.ids[0]},{own}\n{source.ids[1]},{other}\n")
    assert found[:2].tolist() == [1, 0]


def test_labels_are_compared_after_errors_were_planted(tmp_path: Path):
    clean = open_samples("digits").source
    lines = "".join(f"{key},{label}\n" for key, label in zip(clean.ids, clean.given, strict=True))
    noisy = open_samples("digits", noise="uniform:0.4").source
    found = verified_of(tmp_path, "id,label\n" + lines, noise="uniform:0.4")
    assert (found == (clean.given == noisy.given)).all()
    assert 0 < (found == 0).mean() < 1


def test_what_people_said_outweighs_nothing_where_they_said_nothing():
    seen = Verified(np.array([0, 1, -1, -1]), np.array([-1, -1, 3, -1]))
    assert seen.against(np.array([3, 3, 3, 3])).tolist() == [0, 1, 1, -1]
    assert seen.take(np.array([2, 0])).against(np.array([0, 0])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,verdict\n0,1\n", "neither a column `is_correct` nor a column `label`"),
        ("id,is_correct\n0,perhaps\n", "the judgement `perhaps` for the id `0`"),
        ("id,is_correct\nno-such-id,1\n", "first `no-such-id`"),
        ("id,is_correct\n0,1\n0,1\n", "the id `0` twice"),
        ("id,label\n0,eleven\n", "eleven"),
        ("id,is_correct\n0,\n", "verifies no row"),
        ("id,is_correct\n", "no row|no line|empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(SourceError, match=words):
        open_samples("digits", verified=write(tmp_path, text))


def test_trusted_samples_take_the_classes_of_the_training_set(tmp_path: Path):
    samples = open_samples("digits")
    rows = np.arange(20)
    path = tmp_path / "clean.npz"
    np.savez(path, x=samples.source.pixels(rows).numpy(), y=samples.source.given[rows])
    clean = open_samples("digits", clean=str(path)).clean
    assert clean is not None
    assert clean.classes == samples.source.classes
    assert (clean.given == samples.source.given[rows]).all()


def test_trusted_samples_of_another_kind_are_refused(tmp_path: Path):
    path = tmp_path / "vectors.npz"
    np.savez(path, x=np.zeros((20, 5), np.float32), y=np.arange(20) % 10)
    with pytest.raises(SourceError, match="vectors of width 5"):
        open_samples("digits", clean=str(path))
    with pytest.raises(SourceError, match=r"shape `\(1, 8, 8\)`; allowed: `\(5,\)`"):
        open_samples(str(path), clean="digits")
