from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from errata.review.grid import group_of
from errata.review.near import (
    AT_ONCE,
    FILE_NAME,
    Grouper,
    NearDuplicates,
    near_duplicates,
    small_copy,
)

from .fake_audit import picture


def photo(seed: int, side: int = 72) -> Image.Image:
    """Make a picture whose detail falls with its size, as that of photographs does."""
    rng = np.random.default_rng([7, seed])
    pitch = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    waves = np.fft.fft2(rng.normal(size=(3, side, side))) / np.maximum(pitch, 1 / side) ** 1.5
    planes = np.fft.ifft2(waves).real
    planes -= planes.mean(axis=(1, 2), keepdims=True)
    grey = 128 + 50 * planes / planes.std(axis=(1, 2), keepdims=True)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8).transpose(1, 2, 0), "RGB")


def encoded(image: Image.Image, scale: float = 1.0, quality: int = 95) -> bytes:
    sides = [round(side * scale) for side in image.size]
    file = io.BytesIO()
    image.resize((sides[0], sides[1]), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def found_in(files: dict[int, bytes], folder: Path | None = None) -> np.ndarray:
    near = NearDuplicates(files.__getitem__, list(files), max(files) + 1, folder=folder)
    near.start()
    near.wait()
    return near.groups


def recall_and_precision(groups: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """Compare groups with the row that each row is a copy of, or its own."""
    rows = np.arange(len(groups))
    is_joined, is_copy = groups != rows, original != rows
    right = original[groups] == original
    return float(right[is_copy & is_joined].sum() / is_copy.sum()), float(right[is_joined].mean())


CHANGES = {
    "lower quality": (1.0, 50),
    "a tenth smaller": (0.9, 75),
    "a tenth larger": (1.1, 75),
    "half the size": (0.5, 80),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_photograph_saved_again_is_found(change: str) -> None:
    images = [photo(seed) for seed in range(160)]
    again = list(range(0, 160, 4))
    scale, quality = CHANGES[change]
    files = [encoded(image) for image in images]
    files += [encoded(images[seed], scale, quality) for seed in again]
    groups = found_in(dict(enumerate(files)))
    recall, precision = recall_and_precision(groups, np.array([*range(160), *again]))
    assert recall > 0.9
    assert precision > 0.95


@pytest.mark.slow
def test_real_photographs_saved_again_are_found(shared_data: Path) -> None:
    import zipfile

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(shared_data / "photos" / "ants_bees_160px.zip") as folder:
        names = sorted(name for name in folder.namelist() if name.endswith(".jpg"))
        files = [folder.read(name) for name in names]
    again = rng.permutation(len(files))[:100]
    for row in again:
        scale = float(rng.choice([0.9, 1.0, 1.1]))
        with Image.open(io.BytesIO(files[row])) as image:
            files.append(encoded(image.convert("RGB"), scale, int(rng.integers(50, 96))))
    original = np.concatenate([np.arange(len(names)), again])
    recall, precision = recall_and_precision(found_in(dict(enumerate(files))), original)
    assert recall > 0.9
    assert precision > 0.95


def test_every_suspect_is_compared_though_the_review_begins_before() -> None:
    even, other = encoded(Image.new("RGB", (8, 8))), encoded(photo(1, 24))
    count = 2 * AT_ONCE + 30
    files = dict.fromkeys(range(count), even) | {5: other, count - 1: other}
    gate = threading.Event()

    def show(row: int) -> bytes:
        assert row < AT_ONCE or gate.wait(20)
        return files[row]

    near = NearDuplicates(show, range(count), count)
    near.start()
    assert group_of(near.groups, 5) == [5]
    gate.set()
    near.wait()
    assert group_of(near.groups, 5) == [5, count - 1]


def test_what_was_found_is_kept_for_the_same_suspects_alone(tmp_path: Path) -> None:
    files = {row: picture(row, 32) for row in range(6)} | {6: picture(2, 32)}
    count = AT_ONCE + 7
    asked: list[int] = []

    def show(row: int) -> bytes:
        asked.append(row)
        return files[row % 7]

    def groups_of(suspects: range) -> np.ndarray:
        asked.clear()
        near = NearDuplicates(show, suspects, count, folder=tmp_path)
        near.start()
        near.wait()
        return near.groups

    first = groups_of(range(count))
    assert asked == list(range(count))
    assert (tmp_path / FILE_NAME).is_file()
    assert groups_of(range(count)).tolist() == first.tolist()
    assert asked == []
    groups_of(range(1, count))
    assert asked == list(range(1, count))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_kept_groups_that_cannot_be_read_are_found_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    files = {0: picture(1, 32), 1: picture(1, 32)}
    assert found_in(files, tmp_path).tolist() == [0, 0]


def test_stopping_ends_the_thread_and_keeps_nothing(tmp_path: Path) -> None:
    file = picture(1, 16)
    near = NearDuplicates(lambda row: file, range(20_000), 20_000, folder=tmp_path)
    near.start()
    near.stop()
    assert not list(tmp_path.iterdir())


def test_groups_do_not_depend_on_where_the_pictures_are_cut() -> None:
    copies = np.stack([small_copy(encoded(photo(seed % 30, 32))) for seed in range(50)])
    whole, parts = Grouper().add(copies), Grouper()
    cut = np.concatenate([parts.add(copies[:35]), parts.add(copies[35:40]), parts.add(copies[40:])])
    assert cut.tolist() == whole.tolist() == [*range(30), *range(20)]


def test_no_chain_of_small_steps_joins_what_differs() -> None:
    base = np.linspace(0, 255, 48, dtype=np.float32)
    step = 0.04 * np.linalg.norm(base - base.mean()) / np.sqrt(48)
    chain = np.stack([base + place * step for place in range(4)])
    assert Grouper().add(chain).tolist() == [0, 0, 2, 2]


def test_a_small_copy_does_not_depend_on_the_size() -> None:
    small, large = small_copy(picture(1, 64)), small_copy(picture(1, 128))
    assert small.shape == large.shape
    assert np.abs(small - large).max() < 8


def test_different_digits_are_not_near() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits().images[:1000].reshape(1000, 64).astype(np.float32) * 16
    copies = np.repeat(digits, 12, axis=1)
    assert len(np.unique(Grouper().add(copies))) == 1000


def test_a_picture_that_cannot_be_read_is_in_no_group() -> None:
    files = {0: b"", 1: b"no picture", 2: picture(5, 64), 3: picture(5, 64)}
    assert found_in(files).tolist() == [0, 1, 2, 2]


def test_where_no_picture_can_be_read_every_row_is_its_own_group() -> None:
    assert found_in(dict.fromkeys(range(4), b"")).tolist() == [0, 1, 2, 3]


def test_without_pictures_there_are_no_groups(tmp_path: Path) -> None:
    with near_duplicates(None, range(4), 4, folder=tmp_path) as groups:
        assert groups is None
