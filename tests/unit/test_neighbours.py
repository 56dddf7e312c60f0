"""Nearest rows: exact values, ties, laws, and a full matrix as the oracle."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.blocks import blocks_of
from errata.detect import neighbours as detected
from errata.errors import SettingsError
from errata.features import neighbours
from errata.features.neighbours import nearest, nearest_by_faiss


def some(rows: int, width: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def by_full_matrix(x: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Sort every row of the full matrix, in double precision, ties by row."""
    x = x.astype(np.float64)
    if metric == "cosine":
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        near = units @ units.T
    else:
        near = -np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(near, -np.inf)
    return np.argsort(-near, axis=1, kind="stable")[:, :k]


def test_four_points_by_hand():
    points = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.0]])
    found = nearest(points, k=2)
    assert found.rows.tolist() == [[2, 1], [2, 0], [0, 1], [1, 2]]
    half = 0.5**0.5
    expected = torch.tensor([[half, 0.0], [half, 0.0], [half, half], [0.0, -half]]).double()
    # A coordinate is rounded to a multiple of 2**-26.
    torch.testing.assert_close(found.similarity, expected, atol=2**-25, rtol=0)


def test_distances_of_a_line_by_hand():
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    found = nearest(points, k=2, metric="euclidean")
    assert found.rows.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.similarity.tolist() == [[-1.0, -3.0], [-1.0, -2.0], [-2.0, -3.0], [-4.0, -6.0]]


def test_of_equally_near_rows_the_lowest_comes_first():
    points = torch.tensor([[1.0, 0.0]]).repeat(200, 1)
    found = nearest(points, k=3)
    assert found.rows[0].tolist() == [1, 2, 3]
    assert found.rows[1].tolist() == [0, 2, 3]
    assert found.rows[199].tolist() == [0, 1, 2]


def test_rows_of_zeros_are_at_a_right_angle_to_all():
    found = nearest(torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), k=2)
    assert found.rows.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found.similarity.tolist() == [[0.0, 0.0], [0.0, -1.0], [0.0, -1.0]]


def test_where_there_are_few_rows_all_others_are_given():
    assert nearest(some(3, 2), k=10).rows.shape == (3, 2)
    assert nearest(some(1, 2), k=10).rows.shape == (1, 0)


def test_only_the_rows_among_which_to_look_are_found():
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    among, queries = torch.tensor([0, 3]), torch.tensor([1, 3])
    found = nearest(points, k=5, metric="euclidean", among=among, queries=queries)
    assert found.rows.tolist() == [[0], [0]]
    outside = nearest(points, k=5, metric="euclidean", among=among, queries=queries[:1])
    assert outside.rows.tolist() == [[0, 3]]


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_any_block_size_and_number_of_threads_gives_the_same_bits(metric: str, monkeypatch):
    # Rows are few and alike, so that sums in another order would change ranks.
    points = some(700, 33).round(decimals=1)
    expected = nearest(points, k=7, metric=metric)
    for tile, strip, values in ((64, 128, 700), (128, 384, 5000), (256, 256, 2**20)):
        monkeypatch.setattr(neighbours, "_TILE", tile)
        monkeypatch.setattr(neighbours, "_STRIP", strip)
        monkeypatch.setattr(neighbours, "_ROWS", values // 100)
        found = nearest(points, k=7, metric=metric, values=values)
        assert torch.equal(found.rows, expected.rows)
        assert torch.equal(found.similarity, expected.similarity)
    torch.set_num_threads(2)
    found = nearest(points, k=7, metric=metric)
    torch.set_num_threads(1)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("metric", neighbours.METRICS)
@drawn(
    seed=st.integers(0, 1000),
    rows=st.integers(2, 40),
    k=st.integers(1, 9),
    scale=st.sampled_from([2.0**-20, 1.0, 2.0**20]),
)
def test_small_whole_numbers_with_many_ties_are_ranked_as_by_a_loop(
    metric: str, seed: int, rows: int, k: int, scale: float
):
    points = np.random.default_rng(seed).integers(-2, 3, (rows, 2))
    found = nearest(torch.from_numpy(points * scale), k=k, metric=metric)
    for row in range(rows):
        others = [other for other in range(rows) if other != row]
        a = points[row]
        if metric == "cosine":
            # Squares with their sign order as cosines do, and are exact.
            key = {o: _signed_square_of_cosine(a, points[o]) for o in others}
        else:
            key = {o: -int(((a - points[o]) ** 2).sum()) for o in others}
        expected = sorted(others, key=lambda o: (-key[o], o))[:k]
        assert found.rows[row].tolist() == expected


def _signed_square_of_cosine(a: np.ndarray, b: np.ndarray) -> float:
    product, length = int(a @ b), int(a @ a) * int(b @ b)
    return 0.0 if length == 0 else np.sign(product) * (product**2 / length)


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_a_full_matrix_gives_the_same_rows(metric: str):
    points = some(600, 16, seed=3) + 2
    found = nearest(points, k=11, metric=metric)
    assert np.array_equal(found.rows.numpy(), by_full_matrix(points.numpy(), 11, metric))


def test_rows_in_another_order_have_the_same_neighbours():
    points = some(300, 8, seed=5)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for metric in neighbours.METRICS:
        plain = nearest(points, k=4, metric=metric)
        moved = nearest(points[order], k=4, metric=metric)
        assert torch.equal(order[moved.rows], plain.rows[order])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: nearest(some(3, 2), k=0), "k `0`"),
        (lambda: nearest(some(3, 2), k=1, metric="cosin"), "`cosin`"),
        (lambda: nearest(torch.tensor([[1.0], [float("nan")]]), k=1), "row 1 .* NaN"),
    ],
)
def test_what_cannot_be_searched_is_refused(wrong, words: str):
    with pytest.raises(SettingsError, match=words):
        wrong()


class _FlatIndex:
    """As a flat index of faiss: single precision, the best first."""

    def __init__(self, width: int) -> None:
        self.width = width

    def add(self, rows: np.ndarray) -> None:
        assert rows.dtype == np.float32
        self.rows = rows

    def search(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        near = self.near(rows)
        order = np.argsort(-near, axis=1)[:, :count]
        return np.take_along_axis(near, order, axis=1), order


class _FlatIP(_FlatIndex):
    def near(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.rows.T


class _FlatL2(_FlatIndex):
    def near(self, rows: np.ndarray) -> np.ndarray:
        return -((rows[:, None] - self.rows[None]) ** 2).sum(2)


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_candidates_of_a_flat_index_are_put_in_the_exact_order(metric: str, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "faiss", SimpleNamespace(IndexFlatIP=_FlatIP, IndexFlatL2=_FlatL2)
    )
    points = some(200, 6).round(decimals=1)
    found, expected = (
        nearest_by_faiss(points, k=5, metric=metric),
        nearest(points, k=5, metric=metric),
    )
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("metric", neighbours.METRICS)
def test_faiss_itself_gives_the_same_rows(metric: str):
    pytest.importorskip("faiss")
    points = some(2000, 32)
    found, expected = (
        nearest_by_faiss(points, k=10, metric=metric),
        nearest(points, k=10, metric=metric),
    )
    assert torch.equal(found.rows, expected.rows)


def test_a_flat_index_searches_the_rows_that_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(IndexFlatIP=_FlatIP))
    points, among = some(90, 4), torch.arange(0, 90, 2)
    queries = torch.tensor([1, 4, 7])
    found = nearest_by_faiss(points, k=5, among=among, queries=queries)
    assert torch.equal(found.rows, nearest(points, k=5, among=among, queries=queries).rows)


def test_faiss_searches_among_many_rows_where_it_is_installed(monkeypatch):
    module = ModuleType("faiss")
    module.__spec__ = ModuleSpec("faiss", None)
    used = []
    module.IndexFlatIP = lambda width: used.append(width) or _FlatIP(width)
    monkeypatch.setitem(sys.modules, "faiss", module)
    features, given = blocks_of(some(60, 4).numpy(), "features"), np.zeros(60, np.int64)
    plain = detected.labelled_neighbours(features, given, k=3)
    assert not used
    monkeypatch.setattr(detected, "_MANY", 50)
    assert np.array_equal(detected.labelled_neighbours(features, given, k=3), plain)
    assert used == [4]


def test_without_faiss_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SettingsError, match="faiss is not installed"):
        nearest_by_faiss(some(3, 2), k=1)
