"""CIFAR-10, CIFAR-100 and CIFAR-10N in their published layouts."""

from __future__ import annotations

import numpy as np
import pytest

from errata.data import open_source
from errata.errors import SettingsError, SourceError

PIXELS = 3 * 32 * 32


def records(rng, labels):
    pixels = rng.integers(0, 256, (len(labels), PIXELS), dtype=np.uint8)
    return np.concatenate([np.array(labels, np.uint8), pixels], axis=1)


def write_cifar10(folder, count=4):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    batches = [
        records(rng, [[(row + 2 * number) % 10] for row in range(count)]) for number in range(6)
    ]
    for number, batch in enumerate(batches[:5], start=1):
        batch.tofile(folder / f"data_batch_{number}.bin")
    batches[5].tofile(folder / "test_batch.bin")
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return np.concatenate(batches[:5])


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_binary_version_keeps_the_official_order(tmp_path, inside):
    raw = write_cifar10(tmp_path / inside)
    opened = open_source(f"cifar10:{tmp_path}")
    train = opened.train
    assert train.shape == (3, 32, 32)
    assert train.given.tolist() == raw[:, 0].tolist()
    assert (train.pixels(np.arange(20)).numpy().reshape(20, -1) == raw[:, 1:]).all()
    assert train.classes[:2] == ("airplane", "automobile")
    assert len(opened.tests["test"].ids) == 4
    assert open_source(f"cifar10:{tmp_path}", limit=5).train.ids == list("01234")


def test_names_are_known_without_their_file(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").unlink()
    assert open_source(f"cifar10:{tmp_path}").train.classes[9] == "truck"


def test_cifar100_takes_the_fine_label(tmp_path):
    rng = np.random.default_rng(0)
    records(rng, [[1, 70], [2, 3], [1, 99]]).tofile(tmp_path / "train.bin")
    records(rng, [[1, 70]]).tofile(tmp_path / "test.bin")
    names = [f"fine {number}" for number in range(100)]
    (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    opened = open_source(f"cifar100:{tmp_path}")
    assert opened.train.given.tolist() == [70, 3, 99]
    assert opened.train.classes[70] == "fine 70"


def test_missing_or_cut_batch_is_refused(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3072)
    with pytest.raises(SourceError, match=r"data_batch_3.bin` is missing or has 3072 bytes"):
        open_source(f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(SourceError, match=r"data_batch_3.bin` is missing or has 0 bytes"):
        open_source(f"cifar10:{tmp_path}")


def test_python_version_is_not_read(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}")
    with pytest.raises(SourceError) as caught:
        open_source(f"cifar10:{tmp_path}")
    assert "pickled" in caught.value.hint


def test_list_of_names_of_another_length_is_refused(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(SourceError, match="names 2 classes; allowed: 10"):
        open_source(f"cifar10:{tmp_path}")


def write_npz(folder):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    classes = np.array(["cat", "dog", "newt"])
    y = {"train": np.array([0, 1, 2, 0, 1, 2]), "test": np.array([2, 0])}
    for part, labels in y.items():
        x = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"cifar10_{part}.npz", x=x, y=labels, classes=classes)
    return y["train"]


def test_npz_of_it_brings_its_test_set(tmp_path):
    write_npz(tmp_path)
    opened = open_source(f"cifar10:{tmp_path}")
    assert opened.train.classes == ("cat", "dog", "newt")
    assert opened.tests["test"].given.tolist() == [2, 0]


WORST = np.array([0, 1, 1, 0, 2, 2], np.uint8)


@pytest.mark.parametrize("sibling", [False, True])
@pytest.mark.parametrize("form", ["npz", "csv"])
def test_human_labels_are_given_and_the_official_ones_the_truth(tmp_path, sibling, form):
    labels = tmp_path / "cifar10n"
    labels.mkdir()
    clean = write_npz(tmp_path / "cifar10" if sibling else labels)
    if form == "npz":
        order = np.zeros(6, np.uint16)
        np.savez(
            labels / "cifar10n.npz", clean_label=clean, worst_label=WORST, tfds_to_official=order
        )
    else:
        lines = [f"{row},{('cat', 'dog', 'newt')[number]}" for row, number in enumerate(WORST)]
        (labels / "cifar10n_worst_label.csv").write_text("id,label\n" + "\n".join(lines))
    opened = open_source(f"cifar10n:{labels}", column="worst_label", limit=5)
    assert opened.train.given.tolist() == [0, 1, 1, 0, 2]
    assert opened.truth.clean.tolist() == [0, 1, 2, 0, 1]
    assert opened.tests["test"].given.tolist() == [2, 0]


def test_column_has_to_be_named_and_known(tmp_path):
    clean = write_npz(tmp_path)
    np.savez(tmp_path / "cifar10n.npz", clean_label=clean, worst_label=WORST, aggre_label=WORST)
    with pytest.raises(SettingsError, match="allowed: aggre_label, worst_label"):
        open_source(f"cifar10n:{tmp_path}")
    with pytest.raises(SettingsError) as caught:
        open_source(f"cifar10n:{tmp_path}", column="worst_lable")
    assert caught.value.hint == "did you mean `worst_label`?"
    with pytest.raises(SettingsError, match="column `clean_label` is unknown"):
        open_source(f"cifar10n:{tmp_path}", column="clean_label")


def test_labels_in_another_order_are_refused(tmp_path):
    clean = write_npz(tmp_path)
    np.savez(tmp_path / "cifar10n.npz", clean_label=clean[::-1], worst_label=WORST)
    with pytest.raises(SourceError, match="in different orders"):
        open_source(f"cifar10n:{tmp_path}", column="worst_label")


def test_labels_of_another_length_are_refused(tmp_path):
    clean = write_npz(tmp_path)
    np.savez(tmp_path / "cifar10n.npz", clean_label=clean, worst_label=WORST[:5])
    with pytest.raises(SourceError, match="has 5 labels, but there are 6 images"):
        open_source(f"cifar10n:{tmp_path}", column="worst_label")


def test_table_of_labels_has_to_cover_all_images(tmp_path):
    write_npz(tmp_path)
    (tmp_path / "cifar10n_worst_label.csv").write_text("id,label\n0,cat\n2,dog\n")
    with pytest.raises(SourceError, match="not the 6 row numbers in order"):
        open_source(f"cifar10n:{tmp_path}", column="worst_label")


def test_images_have_to_be_at_hand(tmp_path):
    np.savez(tmp_path / "cifar10n.npz", worst_label=WORST)
    with pytest.raises(SourceError, match="nor its sibling `cifar10`"):
        open_source(f"cifar10n:{tmp_path}", column="worst_label")
