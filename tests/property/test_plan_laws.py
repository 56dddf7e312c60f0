"""Laws of plans and batches that hold for any rows, sizes and numbers of ranks."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from errata.engine.draw import Draw, batches_of
from errata.streams import generator
from errata.types import Group, Lap, Plan

N = 40
GIVEN = torch.arange(N) % 5

rows_of_groups = st.lists(
    st.lists(st.integers(0, N - 1), min_size=3, max_size=N, unique=True), min_size=1, max_size=3
)
orders = st.sampled_from(["shuffle", "class_balanced", "weighted"])
sizes, ranks, seeds = st.integers(1, 50), st.integers(1, 3), st.integers(0, 2**32)


def group_of(rows: list[int], order: str = "shuffle") -> Group:
    weights = torch.arange(1, len(rows) + 1) / len(rows) if order == "weighted" else None
    return Group(torch.tensor(rows), order, weights)  # type: ignore[arg-type]


def batches(groups: tuple[Group, ...], size: int, ranks: int, seed: int) -> list[Draw]:
    lap = Lap((0,), groups)
    return list(batches_of(lap, size, GIVEN, lambda name: generator(seed, name), ranks=ranks))


@given(rows_of_groups, orders, sizes, ranks, seeds)
def test_batches_are_small_even_and_full(
    rows: list[list[int]], order: str, size: int, ranks: int, seed: int
):
    groups = tuple(group_of(own, order) for own in rows)
    drawn = batches(groups, size, ranks, seed)
    longest = max(len(own) for own in rows)
    per_group = [torch.bincount(each.group, minlength=len(groups)) for each in drawn]
    for counts in per_group:
        assert (counts == counts[0]).all(), "each group gives the same share"
        assert counts[0] >= ranks, "no rank goes without"
    assert sum(int(counts[0]) for counts in per_group) == longest
    assert max(int(c[0]) for c in per_group) - min(int(c[0]) for c in per_group) <= 1
    # Where the batch has room for a row of each group and rank, it is never larger than asked for.
    if size >= 2 * ranks * len(groups):
        assert max(len(each.rows) for each in drawn) <= size


@given(rows_of_groups, sizes, ranks, seeds)
def test_shuffled_groups_give_each_row_equally_often(
    rows: list[list[int]], size: int, ranks: int, seed: int
):
    groups = tuple(group_of(own) for own in rows)
    drawn = batches(groups, size, ranks, seed)
    longest = max(len(own) for own in rows)
    for index, own in enumerate(rows):
        came = torch.cat([each.rows[each.group == index] for each in drawn])
        counts = torch.bincount(came, minlength=N)
        assert set(came.tolist()) == set(own)
        assert counts[torch.tensor(own)].min() == longest // len(own)
        assert counts.max() == -(-longest // len(own))


@given(rows_of_groups, orders, sizes, seeds, st.integers(1, 5))
def test_ranks_partition_every_batch(
    rows: list[list[int]], order: str, size: int, seed: int, ranks: int
):
    groups = tuple(group_of(own, order) for own in rows)
    if min(len(own) for own in rows) < ranks:
        return
    for each in batches(groups, size, ranks, seed):
        shares = [each.share(rank, ranks) for rank in range(ranks)]
        together = torch.cat(shares)
        assert len(together) == len(each.rows)
        assert together.unique().tolist() == list(range(len(each.rows)))
        assert all(len(share) > 0 for share in shares)
        lengths = [len(share) for share in shares]
        assert max(lengths) - min(lengths) <= len(groups)


@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=N), sizes, seeds)
def test_class_balanced_draws_are_within_one_of_equal(rows: list[int], size: int, seed: int):
    drawn = batches((group_of(sorted(set(rows)), "class_balanced"),), size, 1, seed)
    labels = GIVEN[torch.cat([each.rows for each in drawn])]
    counts = torch.bincount(labels)[GIVEN[torch.tensor(rows)].unique()]
    assert counts.max() - counts.min() <= 1


masks = st.lists(st.booleans(), min_size=N, max_size=N).map(torch.tensor)


@given(rows_of_groups, orders, masks, masks)
def test_keeping_twice_is_keeping_both(rows: list[list[int]], order: str, one, two):
    plan = Plan((Lap((0,), tuple(group_of(own, order) for own in rows)),))
    twice, both = plan.keep(one).keep(two), plan.keep(one & two)
    assert twice.digest() == both.digest()
    assert both.keep(one & two).digest() == both.digest(), "nothing is left to drop"
    for group, before in zip(both.laps[0].groups, plan.laps[0].groups, strict=True):
        kept = [row for row in before.rows.tolist() if one[row] and two[row]]
        assert group.rows.tolist() == kept
        assert group.weights is None or len(group.weights) == len(kept)


@given(rows_of_groups)
def test_keeping_all_changes_nothing(rows: list[list[int]]):
    plan = Plan((Lap((0,), tuple(group_of(own) for own in rows)),))
    assert plan.keep(torch.ones(N, dtype=torch.bool)).digest() == plan.digest()


@given(st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=4), min_size=2, max_size=4))
def test_digests_are_equal_only_for_equal_rows(several: list[list[int]]):
    for one, two in pairwise(several):
        digests = [Plan((Lap((0,), (group_of(rows),)),)).digest() for rows in (one, two)]
        assert (digests[0] == digests[1]) == (one == two)
