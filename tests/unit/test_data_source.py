"""Names and paths of sources, and what is said of those that cannot be opened."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from errata.data import describe, open_source
from errata.errors import ErrataError, SettingsError, SourceError


def test_missing_path_is_named_with_the_nearest(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(SourceError, match="photo` does not exist") as caught:
        open_source(str(tmp_path / "photo"))
    assert caught.value.hint == f"did you mean `{tmp_path}/photos`?"


def test_misspelt_digits_are_recognised():
    with pytest.raises(SourceError) as caught:
        open_source("digit")
    assert caught.value.hint == "did you mean `digits`?"


def test_missing_path_without_a_likeness_lists_what_is_allowed(tmp_path):
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "nowhere/at/all"))
    assert "folder of class folders" in caught.value.hint


@pytest.mark.parametrize("spec", ["", "a\0b", "caf\udce9"])
def test_odd_names_are_refused_in_plain_text(spec):
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    str(caught.value).encode()


@pytest.mark.parametrize("kind", ["clothing1m", "food101n", "webvision", "animal10n", "cifar100n"])
def test_layouts_of_later_are_named_with_the_way_round(tmp_path, kind):
    with pytest.raises(SettingsError, match=f"`{kind}:` is not there yet") as caught:
        open_source(f"{kind}:{tmp_path}")
    assert "csv table" in caught.value.hint


def test_unknown_kind_has_a_suggestion(tmp_path):
    with pytest.raises(SettingsError, match="source `fashon-mnist:` is unknown") as caught:
        open_source(f"fashon-mnist:{tmp_path}")
    assert caught.value.hint == "did you mean `fashion-mnist:`?"


@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist", "cifar10", "cifar100", "cifar10n"])
def test_known_kind_needs_its_folder(tmp_path, kind):
    for rest in ("", str(tmp_path / "none")):
        with pytest.raises(SourceError, match="is no folder"):
            open_source(f"{kind}:{rest}")
    with pytest.raises(SourceError):
        open_source(f"{kind}:{tmp_path}")


def test_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "my:folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="`my:folder` holds no class folders"):
        open_source("my:folder")


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(SourceError, match="file of an unknown kind"):
        open_source(str(tmp_path / "a.xlsx"))


def test_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=f"`{tmp_path}` cannot be read: Permission denied"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit `0`"),
        ({"size": 0}, "size `0`"),
        ({"size": (8, 9999)}, "9999"),
        ({"channels": 2}, "channels `2`"),
        ({"column": "worst_label"}, "column `worst_label` has no meaning"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        open_source("digits", **options)


def test_description_tells_all_that_is_odd(tmp_path):
    x = np.zeros((4, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1, 1, -1]))
    assert describe(open_source(str(tmp_path / "a.npz"))) == (
        f"{tmp_path}/a.npz: 4 rows, 2 classes, 1 x 2 x 2; 1 unlabelled; "
        "1 group of equal pictures with differing labels"
    )


def test_all_errors_are_of_the_kind_that_users_get():
    assert issubclass(SourceError, ErrataError)
    assert issubclass(SettingsError, ErrataError)


def test_arrays_need_neither_pillow_nor_scikit_learn_nor_pyarrow():
    code = (
        "import sys\n"
        "for name in ('PIL', 'sklearn', 'pyarrow'): sys.modules[name] = None\n"
        "import numpy as np, errata.data as data\n"
        "from errata.errors import SettingsError\n"
        "source = data.Arrays(np.zeros((2, 1, 4, 4), np.uint8), np.arange(2), classes='ab')\n"
        "assert source.pixels(np.arange(2)).shape == (2, 1, 4, 4)\n"
        "for act in (lambda: source.show(0), lambda: data.open_source('digits')):\n"
        "    try: act()\n"
        "    except SettingsError as error: print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "run `pip install 'errata[images]'`",
        "run `pip install 'errata[detect]'`",
    ]


def test_real_photos_of_varying_size(shared_data, tmp_path):
    archive = shared_data / "photos" / "ants_bees_160px.zip"
    if not archive.is_file():
        pytest.skip("no photos")
    zipfile.ZipFile(archive).extractall(tmp_path)
    root = next(folder.parent for folder in tmp_path.rglob("train") if folder.is_dir())
    opened = open_source(str(root))
    assert opened.train.shape == (3, 64, 64)
    assert (len(opened.train.ids), len(opened.tests["val"].ids)) == (244, 153)
    assert opened.train.classes == ("ants", "bees")
    assert opened.unreadable == ()
