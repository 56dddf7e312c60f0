"""From plans to batches: which rows come, how often, and on which rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from errata.engine.draw import Draw, batches_of, order_rows
from errata.errors import SettingsError
from errata.streams import generator
from errata.types import Group, Lap

GIVEN = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, -1])


def stream(name: str) -> torch.Generator:
    return generator(0, name)


def draws(*groups: Group, size: int, ranks: int = 1) -> list[Draw]:
    return list(batches_of(Lap((0,), groups), size, GIVEN, stream, ranks=ranks))


def shuffled(rows: list[int] | range) -> Group:
    return Group(torch.tensor(list(rows)))


def rows_of(batches: list[Draw], group: int = 0) -> list[int]:
    return torch.cat([each.rows[each.group == group] for each in batches]).tolist()


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [
        (10, 4, [4, 3, 3]),
        (10, 5, [5, 5]),
        (10, 10, [10]),
        (10, 100, [10]),
        (10, 1, [1] * 10),
        (1, 4, [1]),
        (129, 128, [65, 64]),
    ],
)
def test_tails_are_split_evenly(rows: int, size: int, sizes: list[int]):
    given = torch.zeros(rows, dtype=torch.int64)
    lap = Lap((0,), (shuffled(range(rows)),))
    assert [len(each.rows) for each in batches_of(lap, size, given, stream)] == sizes


def test_shuffle_gives_every_row_once_in_another_order():
    rows = rows_of(draws(shuffled(range(11)), size=4))
    assert sorted(rows) == list(range(11))
    assert rows != sorted(rows)


def test_another_stream_gives_another_order():
    lap = Lap((0,), (shuffled(range(11)),))
    first, again, other = (
        rows_of(list(batches_of(lap, 4, GIVEN, lambda name, seed=seed: generator(seed, name))))
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_class_balanced_draws_every_class_equally_often():
    group = Group(torch.arange(11), "class_balanced")
    # 11 draws of 3 classes: two classes 4 times, one class 3 times.
    rows = torch.tensor(rows_of(draws(group, size=4)))
    assert len(rows) == 11
    assert sorted(torch.bincount(GIVEN[rows]).tolist()) == [3, 4, 4]
    # Rows of a class that is drawn more often than it has rows come again, but evenly.
    per_row = torch.bincount(rows, minlength=11)
    for label in range(3):
        own = per_row[:11][GIVEN[:11] == label]
        assert own.max() - own.min() <= 1


def test_class_balanced_does_not_always_favour_the_same_class():
    group = Group(torch.arange(11), "class_balanced")
    short = set()
    for seed in range(20):
        rows = order_rows(group, 11, GIVEN, generator(seed, "x"))
        short.add(int(torch.bincount(GIVEN[rows]).argmin()))
    assert short == {0, 1, 2}


def test_class_balanced_with_fewer_draws_than_classes():
    rows = order_rows(Group(torch.arange(11), "class_balanced"), 2, GIVEN, stream("x"))
    assert len(set(GIVEN[rows].tolist())) == 2


def test_weighted_draws_follow_the_weights():
    weights = torch.tensor([0.0, 1.0, 3.0])
    group = Group(torch.tensor([5, 6, 7]), "weighted", weights)
    rows = order_rows(group, 8000, GIVEN, stream("x"))
    counts = torch.bincount(rows, minlength=8)
    assert counts[5] == 0
    # Four standard deviations of a share of 0.75 in 8000 draws.
    assert counts[7] / 8000 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 8000) ** 0.5)


def test_weighted_draws_keep_the_length_of_the_epoch():
    group = Group(torch.arange(11), "weighted", torch.ones(11))
    assert len(rows_of(draws(group, size=4))) == 11


def test_every_batch_takes_from_every_group_and_smaller_groups_come_again():
    batches = draws(shuffled(range(9)), shuffled([9, 10]), size=6)
    assert len(batches) == 3
    for each in batches:
        assert each.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert sorted(rows_of(batches, 0)) == list(range(9))
    again = torch.bincount(torch.tensor(rows_of(batches, 1)), minlength=11)
    assert sorted(again[9:].tolist()) == [4, 5]


def test_groups_of_other_orders_are_drawn_side_by_side():
    weights = torch.tensor([0.0, 1.0])
    batches = draws(shuffled(range(8)), Group(torch.tensor([9, 10]), "weighted", weights), size=4)
    assert rows_of(batches, 1) == [10] * 8


def test_more_groups_than_rows_of_a_batch_give_one_row_of_each():
    batches = draws(shuffled([0, 1, 2]), shuffled([3, 4]), shuffled([5]), size=2)
    assert [len(each.rows) for each in batches] == [3, 3, 3]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_a_batch_without_overlap(ranks: int):
    for each in draws(shuffled(range(9)), shuffled([9, 10, 11]), size=6, ranks=ranks):
        shares = [each.share(rank, ranks) for rank in range(ranks)]
        assert sorted(torch.cat(shares).tolist()) == list(range(len(each.rows)))
        for share in shares:
            assert set(each.group[share].tolist()) == {0, 1}, "a rank has rows of every group"


def test_ranks_in_order_give_the_batch_of_one_process():
    for each in draws(shuffled(range(11)), size=4, ranks=2):
        shares: list[Tensor] = [each.rows[each.share(rank, 2)] for rank in range(2)]
        assert torch.equal(torch.cat(shares), each.rows)


def test_the_number_of_ranks_does_not_change_the_batches():
    alone, together = (draws(shuffled(range(11)), size=4, ranks=ranks) for ranks in (1, 2))
    assert [d.rows.tolist() for d in alone] == [d.rows.tolist() for d in together]


def test_small_batches_grow_until_every_rank_has_a_row():
    batches = draws(shuffled(range(5)), size=1, ranks=2)
    assert [len(each.rows) for each in batches] == [3, 2]


@pytest.mark.parametrize(("rows", "ranks"), [(0, 1), (1, 2), (3, 4)])
def test_fewer_rows_than_ranks_are_refused(rows: int, ranks: int):
    with pytest.raises(SettingsError, match=f"has {rows} rows for {ranks} processes") as caught:
        draws(shuffled(range(rows)), size=4, ranks=ranks)
    assert caught.value.hint


def test_a_weighted_group_without_weights_is_a_fault():
    with pytest.raises(AssertionError, match="needs weights"):
        draws(Group(torch.arange(3), "weighted"), size=4)
