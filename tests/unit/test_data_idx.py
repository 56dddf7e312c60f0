"""MNIST and Fashion-MNIST from idx files."""

from __future__ import annotations

import gzip
import time

import numpy as np
import pytest

from errata.data import Arrays, open_source
from errata.data.idx import read_idx_file
from errata.data.labels import find_conflicts
from errata.errors import SourceError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def write(folder, *, packed=True, dot=False, train=6, labels=None):
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", 4)):
        x = rng.integers(0, 256, (count, 5, 4))
        y = np.arange(count) % 10 if labels is None else np.array(labels[:count])
        for kind, values in (("images-idx3", x), ("labels-idx1", y)):
            name = f"{part}-{kind}-ubyte".replace("-idx", ".idx" if dot else "-idx")
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
            else:
                (folder / name).write_bytes(idx(values))
    return f"fashion-mnist:{folder}"


@pytest.mark.parametrize(("packed", "dot"), [(True, False), (False, False), (False, True)])
def test_four_files_packed_or_plain(tmp_path, packed, dot):
    opened = open_source(write(tmp_path, packed=packed, dot=dot))
    assert opened.train.shape == (1, 5, 4)
    assert opened.train.given.tolist() == [0, 1, 2, 3, 4, 5]
    assert opened.train.classes[0] == "T-shirt/top"
    assert opened.train.classes[9] == "Ankle boot"
    expected = np.random.default_rng(0).integers(0, 256, (6, 5, 4))
    assert (opened.train.pixels(np.arange(6))[:, 0].numpy() == expected).all()
    assert len(opened.tests["test"].ids) == 4


def test_mnist_has_digits_as_classes(tmp_path):
    spec = write(tmp_path).replace("fashion-mnist", "mnist")
    assert open_source(spec).train.classes == tuple("0123456789")


def test_limit_takes_the_first_rows_of_training_alone(tmp_path):
    opened = open_source(write(tmp_path), limit=3)
    assert opened.train.ids == ["0", "1", "2"]
    assert len(opened.tests["test"].ids) == 4


@pytest.mark.parametrize(
    "name", [f"{part}{end}" for part in NAMES for end in (".gz",)] + ["t10k-labels-idx1-ubyte.gz"]
)
def test_missing_file_is_named(tmp_path, name):
    spec = write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SourceError, match=f"no file `{name}`"):
        open_source(spec)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "has 119 bytes after its header"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"x"), "more bytes than that"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:9]), "ends within its header"),
        (lambda raw: gzip.compress(b"\x00\x00\x0d\x03"), "starts with `00000d03`"),
        (lambda raw: raw[:-20], "is damaged"),
        (lambda raw: b"", "starts with"),
        (lambda raw: b"plain text", "is damaged"),
    ],
)
def test_damaged_file_is_refused(tmp_path, damage, words):
    spec = write(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SourceError, match=words):
        open_source(spec)


def test_labels_of_another_length_are_refused(tmp_path):
    spec = write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(5))))
    with pytest.raises(SourceError, match=r"has 6 images, but .* has 5 labels"):
        open_source(spec)


def test_label_above_nine_is_refused(tmp_path):
    with pytest.raises(SourceError, match="out of range, first `11`"):
        open_source(write(tmp_path, labels=[0, 1, 2, 11, 4, 5]))


def test_conflicts_among_sixty_thousand_images_take_under_a_second():
    x = np.random.default_rng(0).integers(0, 256, (60_000, 1, 28, 28), dtype=np.uint8)
    # Rows 7 and 39,997 have the same label, so that they do not conflict.
    x[39_997] = x[7]
    x[59_999] = x[8]
    source = Arrays(x, np.arange(60_000) % 10, classes=tuple("0123456789"))
    start = time.process_time()
    assert find_conflicts(source) == ((8, 59_999),)
    assert time.process_time() - start < 1


def test_real_fashion_mnist(shared_data):
    folder = shared_data / "fashion_mnist"
    if not folder.is_dir():
        pytest.skip("no Fashion-MNIST")
    opened = open_source(f"fashion-mnist:{folder}", limit=10_000)
    test = opened.tests["test"]
    assert np.bincount(test.given).tolist() == [1000] * 10
    # The first images of the official files: an ankle boot, two T-shirts, a dress.
    names = [opened.train.classes[number] for number in opened.train.given[:4]]
    assert names == ["Ankle boot", "T-shirt/top", "T-shirt/top", "Dress"]
    raw = read_idx_file(folder / "train-images-idx3-ubyte.gz", dimensions=3)
    assert raw.shape == (60_000, 28, 28)
    assert (opened.train.pixels(np.array([9_999]))[0, 0].numpy() == raw[9_999]).all()
