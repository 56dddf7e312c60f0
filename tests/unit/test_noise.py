"""Planted noise: exact counts, distributions by hand, and a truth that stays apart."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.data import flips
from errata.data.arrays import Arrays
from errata.data.noise import parse_noise, plant_noise, write_noisy_labels
from errata.data.truth import Truth
from errata.errors import OutputError, SettingsError, SourceError

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def make_source(labels: np.ndarray, classes: tuple[str, ...], x: np.ndarray | None = None):
    x = np.zeros((len(labels), 3), np.float32) if x is None else x
    return Arrays(x, labels, classes=classes)


def balanced(classes: int, each: int) -> np.ndarray:
    return np.repeat(np.arange(classes), each)


def within_binomial(count: int, n: int, p: float) -> bool:
    """Five standard deviations: a correct generator fails once in more than a million runs."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 1


# Kinds by hand.


def test_uniform_redraws_over_all_classes_the_true_one_included():
    labels = balanced(10, 1000)
    new = flips.redraw_uniform(labels, 0.4, 10, rng())
    wrong = int((new != labels).sum())
    assert within_binomial(wrong, 4000, 0.9)


def test_uniform_redraws_exactly_the_rounded_number_of_rows():
    # With a single-valued redraw every chosen row is seen: class 0 of 1 class is drawn for all.
    labels = np.full(13, 5)
    new = flips.redraw_uniform(labels, 0.5, 1, rng())
    assert (new == 0).sum() == round(0.5 * 13)


def test_uniform_other_changes_exactly_the_rounded_number_of_labels():
    labels = balanced(4, 25)
    new = flips.flip_other(labels, 0.37, 4, rng())
    assert (new != labels).sum() == 37


def test_uniform_other_reaches_every_other_class_equally():
    labels = np.zeros(9000, np.int64)
    counts = np.bincount(flips.flip_other(labels, 1.0, 4, rng()), minlength=4)
    assert counts[0] == 0
    assert all(within_binomial(count, 9000, 1 / 3) for count in counts[1:])


def test_per_class_rates_are_exact_in_each_class():
    labels = balanced(3, 40)
    new = flips.flip_per_class(labels, (0.0, 0.25, 1.0), 3, rng())
    assert [int((new != labels)[labels == c].sum()) for c in range(3)] == [0, 10, 40]


def test_pair_noise_moves_to_the_next_class_only():
    planted = plant_noise(make_source(balanced(3, 10), tuple("abc")), "pair:0.3", seed=0)
    assert planted.matrix.tolist() == [[7, 3, 0], [0, 7, 3], [3, 0, 7]]
    assert planted.rate == pytest.approx(0.3)


def test_matrix_noise_draws_each_row_of_the_matrix():
    T = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    labels = balanced(3, 4000)
    new = flips.draw_by_matrix(labels, T, rng())
    for true in range(3):
        counts = np.bincount(new[labels == true], minlength=3)
        for label in range(3):
            assert within_binomial(int(counts[label]), 4000, T[true, label]), (true, label)
            assert (counts[label] == 0) == (T[true, label] == 0)


def test_model_noise_follows_the_predictions_of_each_row():
    probs = np.eye(3)[[2, 0, 1, 1]]
    assert flips.draw_from_probs(np.array([0, 0, 0, -1]), probs, rng()).tolist() == [2, 0, 1, -1]


def test_model_noise_with_a_rate_redraws_exactly_that_share():
    labels = np.zeros(50, np.int64)
    probs = np.tile([0.0, 1.0], (50, 1))
    assert (flips.draw_from_probs(labels, probs, rng(), rate=0.3) == 1).sum() == 15


def test_part_dependent_noise_keeps_the_true_class_with_one_minus_its_rate():
    rates = rng(1).uniform(0, 1, 200)
    samples, projection = rng(2).normal(size=(200, 7)), rng(3).normal(size=(7, 5))
    P = flips.instance_probabilities(samples, 2, rates, projection)
    assert (P[:, 2] == 1 - rates).all()
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-12)


def test_part_dependent_noise_survives_huge_scores():
    P = flips.instance_probabilities(
        np.full((1, 1), 1e6), 0, np.array([0.25]), np.array([[9.0, -1.0, 1.0]])
    )
    assert P.tolist() == [[0.75, 0.0, 0.25]]


def test_instance_rates_are_a_truncated_normal():
    rates = flips.instance_rates(20_000, 0.5, rng())
    assert ((rates >= 0) & (rates <= 1)).all()
    assert rates.mean() == pytest.approx(0.5, abs=0.005)
    assert rates.std() == pytest.approx(0.1, abs=0.005)


def test_instance_noise_has_about_the_rate_and_depends_on_the_sample():
    labels = np.zeros(6000, np.int64)
    kinds = rng(5).normal(size=(2, 30))
    which = np.arange(6000) % 2
    new = flips.draw_by_instance(labels, lambda rows: kinds[which[rows]], 0.3, 6, rng())
    assert abs((new != 0).mean() - 0.3) < 0.03
    first, second = (np.bincount(new[(which == k) & (new > 0)], minlength=6) for k in (0, 1))
    assert first.argmax() != second.argmax()


def test_a_class_of_probability_zero_is_never_drawn():
    probs = np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (3000, 1))
    assert set(flips.draw_classes(probs, rng()).tolist()) == {1, 3}


# Maps.


def test_cifar_classes_use_the_usual_asymmetric_map():
    planted = plant_noise(make_source(balanced(10, 10), CIFAR10), "asymmetric:0.4", seed=0)
    moved = {(int(i), int(j)): int(planted.matrix[i, j]) for i, j in np.argwhere(planted.matrix)}
    off = {pair: count for pair, count in moved.items() if pair[0] != pair[1]}
    assert off == dict.fromkeys([(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)], 4)
    assert planted.rate == pytest.approx(0.2)
    assert "truck > automobile" in planted.words


def test_fashion_classes_use_their_map_in_any_order_of_the_classes():
    order = np.argsort(FASHION)
    names = tuple(FASHION[i] for i in order)
    planted = plant_noise(make_source(balanced(10, 10), names), "asymmetric:0.5", seed=0)
    moved = {
        (FASHION.index(names[i]), FASHION.index(names[j]))
        for i, j in np.argwhere(planted.matrix)
        if i != j
    }
    assert moved == {(0, 6), (6, 0), (2, 4), (4, 2), (5, 7), (7, 5), (1, 3), (9, 7)}


def test_other_classes_map_to_the_most_confused_one():
    # Classes 0 and 1 overlap, 2 and 3 overlap, and the pairs are far apart.
    labels = balanced(4, 200)
    x = rng().normal(size=(800, 2)) + np.array([[0, 0], [1, 0], [20, 0], [21, 0]])[labels]
    source = make_source(labels, tuple("abcd"), x.astype(np.float32))
    planted = plant_noise(source, "asymmetric:0.25", seed=0)
    assert "a > b, b > a, c > d, d > c" in planted.words
    assert planted.rate == pytest.approx(0.25)


def test_a_class_that_is_never_confused_maps_to_the_nearest_one():
    labels = balanced(3, 20)
    x = np.array([[0.0], [10.0], [100.0]])[labels] + rng().normal(size=(60, 1)) * 0.01
    assert flips.confused_classes(labels, lambda rows: x[rows], 3, rng()).tolist() == [1, 0, 1]


def test_the_most_confused_class_is_found_for_a_class_with_one_row():
    labels = np.array([0, 0, 0, 0, 1])
    x = np.array([[0.0], [0.1], [0.2], [0.3], [5.0]])
    assert flips.confused_classes(labels, lambda rows: x[rows], 3, rng()).tolist()[1] == 0


# Planting.


def test_the_truth_is_the_given_label_before_the_noise():
    labels = balanced(5, 40)
    source = make_source(labels, tuple("abcde"))
    planted = plant_noise(source, "uniform:0.4", seed=3)
    assert (planted.truth.clean == labels).all()
    assert (source.given == labels).all()
    assert planted.rate == pytest.approx((planted.source.given != labels).mean())
    assert int(planted.matrix.sum()) == 200


def test_noise_on_top_of_known_errors_leaves_the_truth():
    truth = Truth(balanced(4, 50))
    given_labels = truth.clean.copy()
    given_labels[:10] = 3
    source = make_source(given_labels, tuple("abcd"))
    planted = plant_noise(source, "pair:0.2", seed=0, truth=truth)
    assert planted.truth is truth
    assert planted.rate == pytest.approx((planted.source.given != truth.clean).mean())
    assert (planted.source.given != given_labels).sum() == 8 + 10 + 10 + 12


def test_rows_of_unknown_truth_do_not_count_in_the_rate():
    labels = np.array([0, 0, 1, 1])
    truth = Truth(np.array([0, -1, 1, 0]))
    planted = plant_noise(make_source(labels, ("a", "b")), "pair:0", seed=0, truth=truth)
    assert planted.rate == pytest.approx(1 / 3)


@pytest.mark.parametrize("spec", ["uniform:0.9", "uniform-other:0.9", "pair:1", "instance:0.9"])
def test_unlabelled_rows_stay_unlabelled(spec: str):
    labels = np.r_[balanced(4, 30), np.full(20, -1)]
    planted = plant_noise(make_source(labels, tuple("abcd")), spec, seed=0)
    assert ((planted.source.given == -1) == (labels == -1)).all()


def test_a_class_that_noise_empties_is_refused():
    with pytest.raises(SourceError, match="leaves class `a` without any row"):
        plant_noise(make_source(np.array([0, 1, 1]), ("a", "b")), "per-class:1,0", seed=0)


def test_noise_needs_two_classes():
    with pytest.raises(SourceError, match="at least 2 classes"):
        plant_noise(make_source(np.zeros(4, np.int64), ("a",)), "uniform:0.2", seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("unform:0.2", "did you mean `uniform`"),
        ("uniform", "has no value"),
        ("uniform:", "has no value"),
        ("uniform:1.2", "rate `1.2`"),
        ("uniform:-0.1", "rate `-0.1`"),
        ("uniform:nan", "rate `nan`"),
        ("uniform:half", "rate `half`"),
        ("pair:0.1,0.2", "has 2 values"),
        ("model:p.npy,1.5", "rate `1.5`"),
        ("per-class:0.1,x", "rate `x`"),
    ],
)
def test_a_wrong_specification_is_refused_with_what_is_allowed(spec: str, message: str):
    with pytest.raises(SettingsError, match=message) as caught:
        parse_noise(spec)
    assert "allowed" in str(caught.value)


def test_per_class_rates_must_fit_the_classes():
    with pytest.raises(SettingsError, match="has 2 rates, but `arrays` has 3 classes"):
        plant_noise(make_source(balanced(3, 5), tuple("abc")), "per-class:0.1,0.2", seed=0)


def test_a_comma_in_a_file_name_is_no_rate():
    assert parse_noise("model:a,b.npy").path == Path("a,b.npy")
    assert parse_noise("model:a,b.npy,0.5") == parse_noise("model:a,b.npy,.50")


# Files.


def test_matrix_and_model_files_are_read(tmp_path: Path):
    labels = balanced(2, 30)
    T, probs = np.array([[0.5, 0.5], [0.0, 1.0]]), np.full((60, 2), 0.5, np.float16)
    np.save(tmp_path / "T.npy", T)
    np.save(tmp_path / "p.npy", probs)
    source = make_source(labels, ("a", "b"))
    assert plant_noise(source, f"matrix:{tmp_path / 'T.npy'}", seed=0).matrix[1].tolist() == [0, 30]
    assert plant_noise(source, f"model:{tmp_path / 'p.npy'},0.5", seed=0).rate > 0


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        ("matrix", np.eye(3), "has the shape `\\(3, 3\\)`"),
        ("matrix", np.array([[0.5, 0.6], [0, 1]]), "row 0 .* sums to 1.1"),
        ("matrix", np.array([[1.2, -0.2], [0, 1]]), "row 0"),
        ("matrix", np.array([[1.0, np.nan], [0, 1]]), "row 0"),
        ("matrix", np.array([[0.9, 0.4], [0.1, 0.6]]), "transpose it"),
        ("matrix", np.zeros(4), "no table of numbers"),
        ("model", np.full((9, 2), 0.5), "has the shape `\\(9, 2\\)`"),
        ("model", np.full((10, 2), 0.7), "row 0 .* sums to 1.4"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, kind: str, table: np.ndarray, message: str
):
    np.save(tmp_path / "x.npy", table)
    with pytest.raises(SettingsError, match=message):
        plant_noise(make_source(balanced(2, 5), ("a", "b")), f"{kind}:{tmp_path / 'x.npy'}", seed=0)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path):
    source = make_source(balanced(2, 5), ("a", "b"))
    with pytest.raises(SettingsError, match="no such file"):
        plant_noise(source, f"matrix:{tmp_path / 'none.npy'}", seed=0)
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(SettingsError, match="no npy file"):
        plant_noise(source, f"matrix:{tmp_path / 'text.npy'}", seed=0)
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(SettingsError, match="no npy file"):
        plant_noise(source, f"matrix:{tmp_path / 'empty.npy'}", seed=0)


def test_noisy_labels_and_truth_are_written_apart(tmp_path: Path):
    labels = np.array([0, 0, 1, 1, -1])
    source = Arrays(
        np.zeros((5, 2), np.float32),
        labels,
        classes=("a,b", "c"),
        ids=["1", 'q"', "x y", "é", "5"],
    )
    planted = plant_noise(source, "pair:0.5", seed=0)
    write_noisy_labels(planted, tmp_path / "noisy.csv", tmp_path / "truth.npz")
    with (tmp_path / "noisy.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [*source.classes, ""]
    assert [row["id"] for row in rows] == list(source.ids)
    assert [row["label"] for row in rows] == [names[label] for label in planted.source.given]
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as truth:
        assert truth["ids"].tolist() == list(source.ids)
        assert truth["clean"].tolist() == ["a,b", "a,b", "c", "c", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noisy.csv", "truth.npz"]


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path):
    planted = plant_noise(make_source(balanced(2, 5), ("a", "b")), "pair:0.2", seed=0)
    with pytest.raises(OutputError, match="cannot write"):
        write_noisy_labels(planted, tmp_path / "none" / "noisy.csv")


# Laws.

SPECS = ["uniform:{}", "uniform-other:{}", "pair:{}", "instance:{}", "asymmetric:{}"]
label_arrays = st.lists(st.integers(-1, 3), min_size=4, max_size=60).map(
    lambda tail: np.array([0, 1, 2, 3, *tail], dtype=np.int64)
)


@given(labels=label_arrays, form=st.sampled_from(SPECS), seed=st.integers(0, 100))
@settings(max_examples=40)
def test_rate_zero_changes_nothing(labels: np.ndarray, form: str, seed: int):
    planted = plant_noise(make_source(labels, tuple("abcd")), form.format(0), seed=seed)
    assert (planted.source.given == labels).all()
    assert planted.rate == 0


@given(labels=label_arrays, rate=st.floats(0, 1), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_counts_are_exact_for_any_labels(labels: np.ndarray, rate: float, seed: int):
    labelled = int((labels >= 0).sum())
    new = flips.flip_other(labels, rate, 4, rng(seed))
    assert (new != labels).sum() == round(rate * labelled)
    assert (new[labels >= 0] >= 0).all()
    assert (flips.redraw_uniform(labels, rate, 4, rng(seed)) != labels).sum() <= round(
        rate * labelled
    )


@pytest.mark.parametrize("form", SPECS)
def test_the_seed_decides_everything(form: str):
    x = rng(9).normal(size=(400, 5)).astype(np.float32)
    source = make_source(balanced(4, 100), tuple("abcd"), x)
    one, again, other = (plant_noise(source, form.format(0.3), seed=s) for s in (1, 1, 2))
    assert (one.source.given == again.source.given).all()
    assert (one.source.given != other.source.given).any()
