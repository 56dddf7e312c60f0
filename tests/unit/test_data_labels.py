"""Label and truth files, and equal samples whose labels differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from errata.data import Arrays, open_source
from errata.data.labels import find_conflicts
from errata.errors import SourceError


@pytest.fixture
def spec(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x=np.arange(8.0).reshape(4, 2),
        y=np.array([0, 1, 0, 1]),
        ids=np.array(["p", "q", "r", "s"]),
        classes=np.array(["cat", "dog", "fox"]),
    )
    return str(tmp_path / "a.npz")


@pytest.fixture
def file(tmp_path):
    def write(text):
        (tmp_path / "labels.csv").write_text(text)
        return tmp_path / "labels.csv"

    return write


def test_labels_replace_those_of_their_ids_alone(spec, file):
    opened = open_source(spec, labels=file("id,label\ns,cat\np,\nq,fox\n"))
    assert opened.train.given.tolist() == [-1, 2, 0, 0]
    assert opened.weights is None
    assert opened.truth is None


def test_weights_come_along_and_are_one_by_default(spec, file):
    opened = open_source(
        spec, labels=file("id,label,weight,source\ns,cat,0.5,human\np,dog,,model\n")
    )
    assert opened.weights.tolist() == [1, 1, 1, 0.5]
    assert opened.weights.dtype == np.float32


def test_labels_weights_and_truth_follow_the_limit(spec, file, tmp_path):
    np.save(tmp_path / "t.npy", np.array([1, 1, 0, 2]))
    opened = open_source(
        spec, labels=file("id,label,weight\nq,fox,2\ns,cat,3\n"), truth=tmp_path / "t.npy", limit=2
    )
    assert opened.train.given.tolist() == [0, 2]
    assert opened.weights.tolist() == [1, 2]
    assert opened.truth.clean.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,label\nz,cat\ny,cat\np,dog\n", "2 ids that `.*` has not, first `z`"),
        ("id,label\np,dgo\n", "first `dgo` in the row with id `p`"),
        ("id,label\np,cat\np,dog\n", "id `p` twice"),
        ("id,class\np,cat\n", "no column `label`; it has: `id`, `class`"),
        ("id,label,weight\np,cat,-1\n", "weight `-1` for the id `p`"),
        ("id,label,weight\np,cat,nan\n", "weight `nan`"),
        ("id,label,weight\np,cat,much\n", "weight `much`"),
        ("id,label\np,\nq,\nr,\ns,\n", "no labelled row"),
    ],
)
def test_bad_label_files_are_refused(spec, file, text, words):
    with pytest.raises(SourceError, match=words):
        open_source(spec, labels=file(text))


@pytest.mark.parametrize("option", ["labels", "truth"])
def test_missing_file_is_named(spec, tmp_path, option):
    with pytest.raises(SourceError, match=r"none.csv` is no file"):
        open_source(spec, **{option: tmp_path / "none.csv"})


def test_ids_of_odd_file_names_match_raw_and_encoded(tmp_path, file):
    for name in ("cat/50%20.png", "dog/a\tb.png", "dog/c.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "root" / name)
    root = str(tmp_path / "root")
    assert open_source(root).train.ids == ["cat/50%2520.png", "dog/a%09b.png", "dog/c.png"]
    raw = file("id,label\ncat/50%20.png,dog\ndog/a\tb.png,cat\n")
    assert open_source(root, labels=raw).train.given.tolist() == [1, 0, 1]
    encoded = file("id,label\ncat/50%2520.png,dog\ndog/a%09b.png,cat\n")
    assert open_source(root, labels=encoded).train.given.tolist() == [1, 0, 1]


def test_labels_may_name_unreadable_files(tmp_path, file):
    for name in ("cat/a.png", "dog/b.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "root" / name)
    (tmp_path / "root/cat/bad.png").write_bytes(b"")
    labels = file("id,label,weight\ncat/bad.png,dog,5\ndog/b.png,dog,7\n")
    opened = open_source(str(tmp_path / "root"), labels=labels)
    assert opened.train.ids == ["cat/a.png", "dog/b.png"]
    assert opened.weights.tolist() == [1, 7]


def test_truth_file_by_id(spec, file):
    opened = open_source(spec, truth=file("id,label\nr,dog\np,cat\n"))
    assert opened.truth.clean.tolist() == [0, -1, 1, -1]
    assert opened.train.given.tolist() == [0, 1, 0, 1]


def test_truth_array_counts_classes(spec, tmp_path):
    np.save(tmp_path / "t.npy", np.array([2, 1, -1, 0], np.int16))
    assert open_source(spec, truth=tmp_path / "t.npy").truth.clean.tolist() == [2, 1, -1, 0]


def test_truth_array_names_classes_that_are_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array([5, 9, 5]))
    np.save(tmp_path / "t.npy", np.array([9.0, 9.0, 5.0]))
    opened = open_source(str(tmp_path / "a.npz"), truth=tmp_path / "t.npy")
    assert opened.truth.clean.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([0, 1, 0]), r"has the shape `\(3,\)`, but .* has 4 rows"),
        (np.array([0, 1, 0, 3]), "first `3`"),
        (np.array([0, 1, np.nan, 1]), "first `nan`"),
        (np.array([{}, {}, {}, {}], dtype=object), "cannot be read as an npy file"),
    ],
)
def test_bad_truth_arrays_are_refused(spec, tmp_path, values, words):
    np.save(tmp_path / "t.npy", values)
    with pytest.raises(SourceError, match=words):
        open_source(spec, truth=tmp_path / "t.npy")


def test_conflicts_need_equal_samples_and_differing_labels():
    x = np.array([0, 1, 0, 1, 0, 2], np.float32)[:, None]
    source = Arrays(x, np.array([0, 1, 1, 1, -1, 0]), classes=("a", "b"))
    assert find_conflicts(source) == ((0, 2),)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), min_size=1, max_size=30))
def test_conflicts_agree_with_a_slow_loop(rows):
    x = np.array([[value] for value, _ in rows], np.float32)
    labels = np.array([label for _, label in rows])
    groups = []
    for value in dict.fromkeys(value for value, label in rows if label >= 0):
        group = [row for row, (v, label) in enumerate(rows) if v == value and label >= 0]
        if len({rows[row][1] for row in group}) > 1:
            groups.append(tuple(group))
    source = Arrays(x, labels, classes=("a", "b", "c"))
    assert find_conflicts(source) == tuple(groups)


def test_the_truth_that_noise_writes_is_read_back(tmp_path):
    from errata.data.noise import plant_noise, write_noisy_labels

    opened = open_source("digits", limit=100)
    planted = plant_noise(opened.train, "uniform:0.4", seed=1)
    write_noisy_labels(planted, tmp_path / "noisy.csv", tmp_path / "truth.npz")
    again = open_source(
        "digits", limit=100, labels=tmp_path / "noisy.csv", truth=tmp_path / "truth.npz"
    )
    assert again.train.given.tolist() == planted.source.given.tolist()
    assert again.truth is not None
    assert again.truth.clean.tolist() == opened.train.given.tolist()


def test_an_npz_file_without_the_truth_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(SourceError, match="clean"):
        open_source("digits", limit=100, truth=tmp_path / "other.npz")
