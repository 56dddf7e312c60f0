"""Estimators of transition matrices, and what each of them is misled by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from errata.errors import SettingsError
from errata.transition import (
    anchor_rows,
    check_transition,
    estimate_by_anchors,
    estimate_by_counts,
    estimate_by_trusted,
    estimate_dual,
    read_transition,
    weigh_by_given,
)
from errata.transition_fit import estimate_by_votes

TWO = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64)
CLOTHES = torch.tensor(
    [[0.74, 0.26, 0.0], [0.62, 0.11, 0.27], [0.0, 0.05, 0.95]], dtype=torch.float64
)
"""Knitwear, sweater and the rest, with what is published of the matrix of Clothing1M.

True sweaters are labelled knitwear in 62 % and sweater in 11 % of the cases, and knitwear is
labelled sweater in 26. The other six numbers are made up.
"""


def draw(T: Tensor, rows: int = 9_000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw true classes, given labels and the exact posterior of pure rows, in any order."""
    rng = torch.Generator().manual_seed(seed)
    true = torch.randint(len(T), (rows,), generator=rng)
    given = torch.multinomial(T[true], 1, generator=rng)[:, 0]
    return true, given, T[true]


def row_error(found: Tensor, T: Tensor) -> float:
    return float((found - T).abs().sum(1).mean())


def test_pure_anchors_give_the_matrix_exactly():
    posterior = torch.cat([TWO, torch.tensor([[0.55, 0.45], [0.7, 0.3]]).double()])
    assert torch.equal(estimate_by_anchors(posterior, filter_outliers=False), TWO)


def test_outliers_are_left_out_and_come_back_for_the_next_class():
    torch.manual_seed(0)
    crowd = torch.rand(200, 1).double() * 0.5 + 0.1
    posterior = torch.cat([crowd, 1 - crowd], 1)
    posterior[7] = torch.tensor([0.99, 0.01])
    assert anchor_rows(posterior, filter_outliers=False)[0] == 7
    assert anchor_rows(posterior)[0] != 7
    # Row 7 is an outlier of class 0 alone, and its column 1 must still be read.
    kept = posterior[:, 1] <= posterior[:, 1].quantile(0.97)
    best = torch.where(kept, posterior[:, 1], -1).argmax()
    assert anchor_rows(posterior)[1] == best


@pytest.mark.parametrize("filter_outliers", [True, False])
def test_the_order_of_the_rows_does_not_matter(filter_outliers: bool):
    rng = torch.Generator().manual_seed(1)
    posterior = torch.randn(400, 5, generator=rng).softmax(1).double()
    posterior[50:60] = posterior[40:50]
    order = torch.randperm(400, generator=rng)
    here = estimate_by_anchors(posterior, filter_outliers=filter_outliers)
    assert torch.equal(here, estimate_by_anchors(posterior[order], filter_outliers=filter_outliers))


def test_rows_that_are_all_alike_still_have_an_anchor():
    found = estimate_by_anchors(torch.full((10, 3), 1 / 3))
    assert torch.allclose(found, torch.full((3, 3), 1 / 3, dtype=torch.float64))


def test_counts_and_trusted_rows_find_a_matrix_whose_diagonal_leads():
    T = torch.eye(6, dtype=torch.float64) * 0.6 + 0.4 / 6
    true, given, posterior = draw(T, rows=60_000)
    assert row_error(estimate_by_counts(posterior, given), T) < 0.05
    assert row_error(estimate_by_trusted(posterior, true), T) < 1e-12
    assert row_error(estimate_by_anchors(posterior), T) < 1e-12


def test_counts_of_the_surest_rows_leave_out_what_the_net_gets_wrong():
    posterior = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    given = torch.tensor([0, 0, 1, 0, 1])
    assert estimate_by_counts(posterior, given).tolist() == [
        [pytest.approx(2 / 3), pytest.approx(1 / 3)],
        [0.5, 0.5],
    ]
    # Of three and of two rows: at or above the middle one, and the surer one.
    assert estimate_by_counts(posterior, given, surest=0.5).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert torch.equal(
        estimate_by_counts(posterior, given, surest=0.5),
        estimate_by_counts(posterior.flip(0), given.flip(0), surest=0.5),
    )


def test_bayes_rule_weighs_a_prediction_by_the_given_label():
    prediction = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    given = torch.tensor([1, 1, -1, 1])
    T = torch.tensor([[1.0, 0.0], [0.4, 0.6]])
    found = weigh_by_given(prediction, given, T, temperature=1.0)
    # Class 0 is never labelled 1; the last row, sure of it, has nothing to go by but itself.
    assert found.tolist() == [
        [0.0, 1.0],
        [0.0, 1.0],
        [pytest.approx(0.9), pytest.approx(0.1)],
        [1, 0],
    ]
    sharper = weigh_by_given(prediction[2:3], given[2:3], T)
    assert sharper[0, 0] == pytest.approx(0.81 / 0.82)


def test_the_label_beside_an_exact_posterior_finds_more_true_classes_than_either():
    rng = torch.Generator().manual_seed(0)
    clean = torch.rand(4_000, 3, generator=rng).double() ** 3
    clean /= clean.sum(1, keepdim=True)
    true = torch.multinomial(clean, 1, generator=rng)[:, 0]
    T = torch.eye(3).double() * 0.4 + 0.2
    given = torch.multinomial(T[true], 1, generator=rng)[:, 0]
    both = weigh_by_given(clean, given, T, temperature=1.0)
    right = [
        float((each == true).double().mean()) for each in (given, clean.argmax(1), both.argmax(1))
    ]
    assert right[2] > max(right[:2]) + 0.01


def test_the_dual_estimate_is_the_product_of_anchors_and_counts():
    _, given, posterior = draw(TWO)
    dual = estimate_dual(posterior, given)
    counts = estimate_by_counts(posterior, given)
    assert torch.allclose(dual, TWO @ counts)
    # An exact posterior holds the noise already, so that it counts twice.
    assert row_error(dual, TWO) > 0.2
    # Where the net is too sure, as trained ones are, the product is right and anchors are not.
    sure = torch.eye(2).double()[posterior.argmax(1)]
    assert row_error(estimate_dual(sure, given), TWO) < 0.05
    assert row_error(estimate_by_anchors(sure, filter_outliers=False), TWO) > 0.5


def test_all_but_trusted_rows_get_the_sweaters_of_clothing_1m_wrong():
    true, given, posterior = draw(CLOTHES)
    assert row_error(estimate_by_trusted(posterior, true), CLOTHES) < 1e-12
    # The row surest of "sweater" is a piece of knitwear: 26 % of those are called so, and 11 % of
    # sweaters.
    anchor = anchor_rows(posterior, filter_outliers=False)[1]
    assert true[anchor] == 0
    for found in (
        estimate_by_anchors(posterior, filter_outliers=False),
        estimate_by_anchors(posterior),
        estimate_by_counts(posterior, given),
        estimate_by_counts(posterior, given, surest=0.5),
        estimate_dual(posterior, given),
        # The same holds for what neighbours say, however many of them are pure.
        estimate_by_votes(posterior, given),
    ):
        assert float((found[1] - CLOTHES[1]).abs().sum()) > 0.3
    # No row is called "sweater" by the net; counts then take the class to be labelled as itself.
    assert estimate_by_counts(posterior, given)[1].tolist() == [0.0, 1.0, 0.0]


def test_classes_without_rows_and_rows_without_labels():
    posterior = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
    counts = estimate_by_counts(posterior, torch.tensor([0, 1, -1]))
    assert torch.equal(counts, torch.eye(3, dtype=torch.float64))
    trusted = estimate_by_trusted(posterior[:2], torch.tensor([1, 1]))
    assert trusted[[0, 2]].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert trusted[1].tolist() == pytest.approx([0.55, 0.45, 0.0])


def test_files_of_both_kinds_are_read(tmp_path: Path):
    np.save(tmp_path / "T.npy", TWO.numpy().astype(np.float32))
    (tmp_path / "T.csv").write_text("0.8,0.2\n0.4,0.6\n", "utf-8")
    for name in ("T.npy", "T.csv"):
        found = read_transition(tmp_path / name, 2)
        assert found.dtype == torch.float64
        assert torch.allclose(found, TWO, atol=1e-7)


@pytest.mark.parametrize(
    ("rows", "words", "hint"),
    [
        ([[0.8, 0.2]], r"shape `\(1, 2\)`", "one row per true"),
        ([[0.8, 0.2], [0.4, 0.7]], "row 1 .* sums to 1.1", "true class i"),
        ([[1.2, -0.2], [0.4, 0.6]], "row 0 .* is no distribution", "true class i"),
        ([[0.8, 0.4], [0.2, 0.6]], "row 0", "transpose it"),
        ([[float("nan"), 0.5], [0.4, 0.6]], "row 0", "true class i"),
        (np.eye(3).tolist(), r"allowed: `\(2, 2\)`", "these classes"),
    ],
)
def test_what_is_no_transition_matrix_is_refused(rows: list, words: str, hint: str):
    with pytest.raises(SettingsError, match=words) as caught:
        check_transition(torch.tensor(rows), name="T.npy", classes=2)
    assert "allowed" in caught.value.message
    assert hint in (caught.value.hint or "")


def test_singular_matrices_are_refused_where_an_inverse_is_needed():
    flat = torch.full((3, 3), 1 / 3)
    check_transition(flat, name="T")
    with pytest.raises(SettingsError, match="`T` is singular") as caught:
        check_transition(flat, name="T", invertible=True)
    assert "join the classes" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.npy", None),
        ("T.npy", b"no array"),
        ("T.npy", b""),
        ("T.csv", b"a,b\nc,d\n"),
        ("T.csv", b"0.8,0.2\n0.4\n"),
        ("T.csv", b""),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: bytes | None):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        read_transition(path, 2)
    assert "allowed" in caught.value.message


@pytest.mark.parametrize("estimate", [estimate_by_counts, estimate_dual, estimate_by_trusted])
def test_labels_that_are_no_column_are_refused(estimate):
    posterior = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(SettingsError, match=r"label `2` is no column .* 0 to 1"):
        estimate(posterior, torch.tensor([2, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_random_matrices_are_found_from_exact_posteriors(seed: int):
    rng = torch.Generator().manual_seed(seed)
    noise = torch.rand(6, 6, generator=rng, dtype=torch.float64)
    T = 0.6 * torch.eye(6).double() + 0.4 * noise / noise.sum(1, keepdim=True)
    true, _, posterior = draw(T, rows=600, seed=seed)
    assert row_error(estimate_by_anchors(posterior, filter_outliers=False), T) < 0.01
    assert row_error(estimate_by_trusted(posterior, true), T) < 0.01
