"""Folders of class folders, and pictures that fit into memory or do not."""

from __future__ import annotations

import io
import os
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
import torch
from PIL import Image

from errata.data import describe, open_source
from errata.data.folder import read_folder
from errata.data.found import Fit
from errata.errors import SourceError
from errata.types import Source


def save(path, shade=0, size=(8, 8), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade).save(path)


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(["cat/a.png", "cat/deep/er/b.png", "dog/c.png", "dog/d.png"]):
        save(tmp_path / name, 10 * number)
    return tmp_path


def test_first_level_is_the_class_and_ids_are_sorted_paths(root):
    train = open_source(str(root)).train
    assert isinstance(train, Source)
    assert train.ids == ["cat/a.png", "cat/deep/er/b.png", "dog/c.png", "dog/d.png"]
    assert train.classes == ("cat", "dog")
    assert train.given.tolist() == [0, 0, 1, 1]
    pixels = train.pixels(np.array([3, 0]))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (2, 1, 8, 8)
    assert pixels[:, 0, 0, 0].tolist() == [30, 0]


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path):
    for name in ("10", "9", "1"):
        save(tmp_path / name / "a.png")
    assert open_source(str(tmp_path)).train.classes == ("1", "9", "10")


def test_hidden_files_are_ignored_and_others_counted(root):
    for name in (".DS_Store", "cat/.hidden.png", "__MACOSX/._a.png", ".git/x.png"):
        save(root / "z.png")
        (root / name).parent.mkdir(exist_ok=True)
        (root / "z.png").rename(root / name)
    for name in ("cat/Thumbs.db", "dog/notes.txt", "dog/list.csv", "classes.txt"):
        (root / name).write_text("x")
    opened = open_source(str(root))
    assert len(opened.train.ids) == 4
    assert opened.skipped == 4
    assert opened.unreadable == ()
    assert describe(opened).endswith("; 4 skipped, no images by their suffix")


def test_folder_without_images_is_no_class(root):
    (root / "empty").mkdir()
    assert open_source(str(root)).train.classes == ("cat", "dog")


NAMES = [b"with space.png", b"a,b.png", b'"quoted".png', b"<script>alert(1).png", b"50%20.png"]
NAMES += [b"latin \xe9\xff.png", "unicode \u5b57.png".encode(), b"line\nbreak.png"]


def test_any_file_name_has_an_id_that_leads_back(root):
    for name in NAMES:
        save(root / "cat" / os.fsdecode(name), 77)
    train = open_source(str(root)).train
    found = {unquote_to_bytes(key) for key in train.ids}
    assert found >= {b"cat/" + name for name in NAMES}
    assert len(set(train.ids)) == len(NAMES) + 4
    for key in train.ids:
        assert key.encode().decode() == key
        assert "\n" not in key
    assert "cat/latin %E9%FF.png" in train.ids


def test_class_of_any_name_is_text(root):
    save(root / os.fsdecode(b"caf\xe9") / "a.png")
    assert "caf%E9" in open_source(str(root)).train.classes


def broken(root):
    (root / "cat/empty.png").write_bytes(b"")
    (root / "cat/text.jpg").write_text("not a picture")
    (root / "dog/gone.png").symlink_to(root / "nowhere.png")
    for name, kind in (("cut.png", "PNG"), ("half.jpg", "JPEG")):
        with io.BytesIO() as file:
            Image.effect_noise((99, 99), 50).save(file, format=kind)
            (root / "dog" / name).write_bytes(file.getvalue()[:800])


def test_broken_files_are_listed_and_the_rest_is_kept(root):
    broken(root)
    opened = open_source(str(root))
    assert opened.train.ids == ["cat/a.png", "cat/deep/er/b.png", "dog/c.png", "dog/d.png"]
    assert opened.train.pixels(np.arange(4))[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    whys = {bad.id: bad.why for bad in opened.unreadable}
    assert sorted(whys) == [
        "cat/empty.png",
        "cat/text.jpg",
        "dog/cut.png",
        "dog/gone.png",
        "dog/half.jpg",
    ]
    assert "empty" in whys["cat/empty.png"]
    assert "No such file" in whys["dog/gone.png"]
    assert "truncated" in whys["dog/half.jpg"]
    assert opened.unreadable[0].path == str(root / "cat/empty.png")


def test_bomb_is_listed(root, monkeypatch):
    save(root / "cat/huge.png", size=(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    opened = open_source(str(root))
    assert [bad.id for bad in opened.unreadable] == ["cat/huge.png"]
    assert "too large" in opened.unreadable[0].why


def test_folder_without_one_readable_file_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"none of the 2 image files can be read.*empty"):
        open_source(str(tmp_path))


def test_class_whose_files_are_all_broken_leaves_one_class(root):
    for name in ("c", "d"):
        (root / f"dog/{name}.png").write_bytes(b"")
    with pytest.raises(SourceError, match="only the class `cat`"):
        open_source(str(root))


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no class folders with images") as caught:
        open_source(str(tmp_path))
    assert "one subfolder" in str(caught.value)


def test_folder_of_loose_images_is_refused(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(SourceError, match="1 image files but no class folders"):
        open_source(str(tmp_path))


def test_one_class_only_is_refused(tmp_path):
    save(tmp_path / "cat/a.png")
    with pytest.raises(SourceError, match="only the class `cat`"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("folders", "tests"),
    [
        (("train", "val", "test"), ["test", "val"]),
        (("training", "validation"), ["val"]),
        (("Train", "Valid"), ["val"]),
        (("train", "test"), ["test"]),
        (("train",), []),
    ],
)
def test_root_of_a_split_brings_its_test_sets(tmp_path, folders, tests):
    for folder in folders:
        for label in ("cat", "dog"):
            save(tmp_path / folder / label / f"{folder}.png", 9, size=(16, 16))
    (tmp_path / "classes.txt").write_text("cat dog")
    opened = open_source(str(tmp_path))
    assert opened.train.ids == [f"{label}/{folders[0]}.png" for label in ("cat", "dog")]
    assert sorted(opened.tests) == tests
    for source in opened.tests.values():
        assert source.given.tolist() == [0, 1]
        assert source.shape == (1, 16, 16)


def test_split_with_another_folder_is_no_split(tmp_path):
    for name in ("train", "test", "car"):
        save(tmp_path / name / "a.png")
    opened = open_source(str(tmp_path))
    assert opened.train.classes == ("car", "test", "train")
    assert opened.tests == {}


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "val", "validation"):
        save(tmp_path / name / "cat" / "a.png")
    with pytest.raises(SourceError, match="two folders for one split"):
        open_source(str(tmp_path))


def test_test_folder_without_labels_is_no_test_set(tmp_path):
    for label in ("cat", "dog"):
        save(tmp_path / "train" / label / "a.png")
    save(tmp_path / "test" / "1.png")
    opened = open_source(str(tmp_path))
    assert opened.tests == {}
    assert opened.skipped == 1


def test_test_class_that_training_has_not_is_refused(tmp_path):
    for name in ("train/cat", "train/dog", "val/newt"):
        save(tmp_path / name / "a.png")
    with pytest.raises(SourceError, match="first `newt`"):
        open_source(str(tmp_path))


def test_broken_test_files_are_listed_too(tmp_path):
    for name in ("train/cat", "train/dog", "val/cat"):
        save(tmp_path / name / "a.png")
    (tmp_path / "val/cat/bad.png").write_bytes(b"")
    opened = open_source(str(tmp_path))
    assert [bad.path for bad in opened.unreadable] == [str(tmp_path / "val/cat/bad.png")]


def test_test_set_takes_the_shape_of_the_training_set(tmp_path):
    save(tmp_path / "train/cat/a.png", "red", size=(20, 20), mode="RGB")
    save(tmp_path / "train/dog/a.png", "red", size=(20, 20), mode="RGB")
    save(tmp_path / "val/cat/a.png", 9, size=(99, 50))
    assert open_source(str(tmp_path)).tests["val"].shape == (3, 20, 20)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (((32, 32), (32, 32)), (32, 32)),
        (((64, 64), (64, 64)), (64, 64)),
        (((65, 65), (65, 65)), (64, 64)),
        (((32, 32), (33, 33)), (64, 64)),
        (((32, 20), (32, 20)), (64, 64)),
    ],
)
def test_size_is_kept_only_where_all_are_equal_squares_up_to_64(tmp_path, sizes, expected):
    for label, size in zip(("cat", "dog"), sizes, strict=True):
        save(tmp_path / label / "a.png", size=size)
    assert open_source(str(tmp_path)).train.shape == (1, *expected)
    assert open_source(str(tmp_path), size=16).train.shape == (1, 16, 16)


def test_one_colour_picture_makes_the_source_colour(root):
    save(root / "cat/red.png", "red", mode="RGB")
    assert open_source(str(root)).train.shape == (3, 8, 8)
    assert open_source(str(root), channels=1).train.shape == (1, 8, 8)


def test_limit_is_a_seeded_share_of_each_class(tmp_path):
    for label, count in (("cat", 12), ("dog", 4)):
        for number in range(count):
            save(tmp_path / label / f"{number}.png", number)
    first = open_source(str(tmp_path), limit=8, seed=0).train
    assert np.bincount(first.given).tolist() == [6, 2]
    assert first.ids == open_source(str(tmp_path), limit=8, seed=0).train.ids
    assert first.ids != open_source(str(tmp_path), limit=8, seed=1).train.ids


def test_pictures_beyond_the_budget_are_decoded_on_demand(root):
    broken(root)
    found = read_folder(root, name="t")
    everything = np.arange(len(found.ids))
    kept = found.take(everything, given=found.given, fit=Fit()).source
    found.budget = 0
    lazy, _, unreadable = found.take(everything, given=found.given, fit=Fit())
    assert (kept.in_memory, lazy.in_memory) == (True, False)
    assert len(unreadable) == 5
    assert lazy.ids == kept.ids
    rows = np.array([3, 1, 1, 0])
    assert torch.equal(lazy.pixels(rows), kept.pixels(rows))
    assert lazy.digests == kept.digests
    (root / "dog/d.png").unlink()
    with pytest.raises(SourceError, match=r"dog/d\.png` can no longer be read"):
        lazy.pixels(rows)
    assert lazy.show(3) == b""
    assert Image.open(io.BytesIO(kept.show(3))).getpixel((0, 0)) == 30


def test_shown_picture_is_the_original_not_the_crop(tmp_path):
    save(tmp_path / "cat/a.png", size=(300, 100))
    save(tmp_path / "dog/a.png", size=(2000, 1000))
    train = open_source(str(tmp_path)).train
    assert Image.open(io.BytesIO(train.show(0))).size == (300, 100)
    assert Image.open(io.BytesIO(train.show(1))).size == (512, 256)


def test_equal_pictures_with_differing_labels_are_conflicts(root):
    save(root / "dog/copy of a.png", 0)
    save(root / "cat/second copy.png", 0)
    opened = open_source(str(root))
    groups = [[opened.train.ids[row] for row in group] for group in opened.conflicts]
    assert groups == [["cat/a.png", "cat/second copy.png", "dog/copy of a.png"]]


def test_equal_pictures_with_equal_labels_are_none(root):
    save(root / "cat/copy.png", 0)
    assert open_source(str(root)).conflicts == ()


def test_links_are_followed_but_not_in_circles(root):
    (root / "cat/circle").symlink_to(root / "cat")
    (root / "fox").symlink_to(root / "dog")
    train = open_source(str(root)).train
    assert train.classes == ("cat", "dog", "fox")
    assert len(train.ids) == 6


def test_progress_is_told(root):
    calls = []
    open_source(str(root), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 4)]


def test_trailing_slash_changes_nothing(root):
    assert open_source(f"{root}/").train.ids == open_source(str(root)).train.ids
