"""Arrays as sources, and npz files of every accepted and refused form."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from errata.data import Arrays, open_source
from errata.data.found import Fit
from errata.data.layout import check_pixels, fit_pixels
from errata.errors import SourceError
from errata.types import Source


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def opened(tmp_path, x, y=(0, 1), **more):
    return open_source(write(tmp_path / "a.npz", x=x, y=np.array(y), **more))


def png(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_arrays_meet_the_protocol():
    source = Arrays(np.zeros((3, 4), np.float32), np.array([0, 1, -1]), classes=("a", "b"))
    assert isinstance(source, Source)
    assert source.ids == ["0", "1", "2"]
    assert source.given.dtype == np.int64
    assert source.shape == (4,)
    assert source.show(0) == b""


def test_pixels_come_in_the_order_of_the_rows():
    x = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    source = Arrays(x, np.zeros(3), classes=("a",))
    batch = source.pixels(np.array([2, 0, 2]))
    assert batch.dtype == torch.uint8
    assert batch.flatten().tolist() == [2, 0, 2]


def test_shown_png_has_the_very_pixels():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 1, 5, 7), dtype=np.uint8)
    colour = rng.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    assert (png(Arrays(grey, np.zeros(2), classes=("a",)).show(1)) == grey[1, 0]).all()
    shown = png(Arrays(colour, np.zeros(2), classes=("a",)).show(1))
    assert (shown == colour[1].transpose(1, 2, 0)).all()


def test_float_picture_beyond_the_scale_is_stretched_to_be_shown():
    x = np.array([[[[-1.0, 0.0], [1.0, 3.0]]]], np.float32)
    shown = png(Arrays(x, np.zeros(1), classes=("a",)).show(0))
    assert shown.tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 8, 9), (1, 8, 9)),
        ((2, 8, 9, 3), (3, 8, 9)),
        ((2, 8, 9, 1), (1, 8, 9)),
        ((2, 3, 8, 9), (3, 8, 9)),
        ((2, 1, 8, 9), (1, 8, 9)),
        ((2, 5), (5,)),
    ],
)
def test_layouts_of_npz(tmp_path, shape, expected):
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    train = opened(tmp_path, x).train
    assert train.shape == expected
    pixels = train.pixels(np.array([1]))[0].numpy()
    natural = x[1].transpose(2, 0, 1) if shape[-1] in (1, 3) else x[1].reshape(expected)
    assert (pixels == natural).all()
    assert pixels.dtype == (np.uint8 if len(expected) == 3 else np.float32)


@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 127.5, 255], "f"),
        (np.array([0.0, 100.0, 255.0]), [0, 100, 255], "f"),
        (np.array([-1.0, 0.0, 1.0]), [-1, 0, 1], "f"),
        (np.array([0, 7, 255], np.int64), [0, 7, 255], "u"),
        (np.array([0, 257, 65535], np.uint16), [0, 1, 255], "u"),
        (np.array([False, True, True]), [0, 255, 255], "u"),
    ],
)
def test_scales_of_pictures(values, expected, kind):
    x = np.broadcast_to(values[None, None, :], (2, 1, 3))
    out = check_pixels(x, ids=["0", "1"], where="`x`")
    assert out[0, 0, 0].tolist() == expected
    assert out.dtype.kind == kind


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_value_that_is_not_finite_names_the_first_row_and_the_number(tmp_path, bad):
    x = np.zeros((5, 4, 4))
    x[[1, 3], 2, 2] = bad
    ids = np.array(["a", "b", "c", "d", "e"])
    with pytest.raises(SourceError, match="2 of 5 rows, first in the row with id `b`"):
        opened(tmp_path, x, [0, 1, 0, 1, 0], ids=ids)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 4, 4, 5)), "1 or 3 channels"),
        (np.zeros(2), "has the shape"),
        (np.zeros((2, 0, 4)), "has the shape"),
        (np.zeros((2, 1, 1, 1, 1)), "has the shape"),
        (np.array([["a"], ["b"]]), "has the type"),
        (np.full((2, 3, 3), -4), "whole numbers from `-4` to `-4`"),
        (np.full((2, 3, 3), 256), "whole numbers from `256`"),
        (np.zeros((0, 4, 4)), "holds no rows"),
    ],
)
def test_samples_of_another_form_are_refused(tmp_path, x, words):
    with pytest.raises(SourceError, match=words):
        opened(tmp_path, x, np.arange(len(x)) % 2)


def test_names_and_ids_come_from_the_file(tmp_path):
    classes, ids = np.array(["cat", "dog"]), np.array(["p", "q", "r"])
    train = opened(tmp_path, np.zeros((3, 4)), [1, 0, -1], classes=classes, ids=ids).train
    assert train.classes == ("cat", "dog")
    assert train.ids == ["p", "q", "r"]
    assert train.given.tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0, 1, 0], r"`y` has the shape `\(3,\)`, but `x` has 2 rows"),
        ([[0], [1]], "`y` has the shape"),
        ([0.0, np.nan], "first `nan`"),
        ([0, -7], "first `-7`"),
        ([0, 0], "only the class `0`"),
        ([-1, -1], "no labelled row"),
    ],
)
def test_bad_labels_are_refused(tmp_path, y, words):
    with pytest.raises(SourceError, match=words):
        opened(tmp_path, np.zeros((2, 4)), y)


def test_label_beyond_the_classes_is_refused(tmp_path):
    with pytest.raises(SourceError, match="out of range, first `2`"):
        opened(tmp_path, np.zeros((2, 4)), [0, 2], classes=np.array(["cat", "dog"]))


def test_duplicate_ids_are_refused(tmp_path):
    with pytest.raises(SourceError, match="id `p` twice"):
        opened(tmp_path, np.zeros((2, 4)), ids=np.array(["p", "p"]))


def test_classes_of_another_form_are_refused(tmp_path):
    with pytest.raises(SourceError, match="`classes` has the shape"):
        opened(tmp_path, np.zeros((2, 4)), classes=np.array("cat"))


def test_missing_array_is_named_with_what_is_there(tmp_path):
    with pytest.raises(SourceError, match="no array `y`; it holds: `x`, `label`"):
        open_source(write(tmp_path / "a.npz", x=np.zeros((2, 4)), label=np.zeros(2)))


def test_python_objects_are_never_read(tmp_path):
    objects = np.array([{}, {}], dtype=object)
    with pytest.raises(SourceError, match="cannot be read as an npz file"):
        open_source(write(tmp_path / "a.npz", x=objects, y=np.array([0, 1])))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all"])
def test_damaged_npz_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read as an npz file"):
        open_source(str(tmp_path / "a.npz"))


def test_single_array_is_no_npz(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SourceError, match="holds a single array"):
        open_source(str(tmp_path / "a.npz"))


def test_limit_takes_the_first_rows(tmp_path):
    path = write(tmp_path / "a.npz", x=np.arange(10.0)[:, None], y=np.arange(10) % 3)
    train = open_source(path, limit=4).train
    assert train.ids == ["0", "1", "2", "3"]
    assert train.pixels(np.arange(4)).flatten().tolist() == [0, 1, 2, 3]
    # Classes are counted before the limit, so that a number means the same in every subset.
    assert open_source(path, limit=2).train.classes == ("0", "1", "2")


def test_limit_that_leaves_one_class_is_refused(tmp_path):
    path = write(tmp_path / "a.npz", x=np.zeros((4, 2)), y=np.array([0, 0, 1, 1]))
    with pytest.raises(SourceError, match=r"only the class `0` among the 2 rows"):
        open_source(path, limit=2)


def test_test_set_is_matched_by_class_name(tmp_path):
    path = write(
        tmp_path / "a.npz", x=np.zeros((2, 4)), y=np.array([0, 1]), classes=np.array(["b", "a"])
    )
    train = open_source(path, classes=("a", "b", "c")).train
    assert train.given.tolist() == [1, 0]
    assert train.classes == ("a", "b", "c")


def test_constant_pictures_stay_constant_at_any_size_and_colour():
    x = np.full((2, 3, 10, 14), 200, np.uint8)
    out = fit_pixels(x, Fit((7, 5), 1), name="t")
    assert out.shape == (2, 1, 7, 5)
    assert (out == 200).all()


def test_resizing_keeps_the_centre():
    # 2 x 6 to 2 x 2: no scaling, the two columns in the middle stay.
    x = np.arange(12, dtype=np.uint8).reshape(1, 1, 2, 6)
    assert fit_pixels(x, Fit((2, 2)), name="t")[0, 0].tolist() == [[2, 3], [8, 9]]


def test_grey_is_the_weighted_sum_of_the_colours():
    x = np.array([255, 0, 0, 0, 255, 0, 0, 0, 255], np.uint8).reshape(3, 3, 1, 1)
    assert fit_pixels(x, Fit(None, 1), name="t").flatten().tolist() == [76, 150, 29]


def test_colour_of_grey_repeats_it():
    x = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    assert (fit_pixels(x, Fit(None, 3), name="t") == x).all()


def test_size_reaches_the_source(tmp_path):
    path = write(tmp_path / "a.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.array([0, 1]))
    assert open_source(path, size=4, channels=3).train.shape == (3, 4, 4)
    assert open_source(path, size=(4, 6)).train.shape == (1, 4, 6)


def test_vectors_cannot_be_resized(tmp_path):
    path = write(tmp_path / "a.npz", x=np.zeros((2, 8)), y=np.array([0, 1]))
    with pytest.raises(SourceError, match="vectors of width 8"):
        open_source(path, size=4)
