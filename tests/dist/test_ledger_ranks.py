"""Two ranks that write the same rows end with the ledger of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from errata.errors import LedgerError
from errata.ledger import Column, Ledger

NUM_ROWS, STEPS, SIZE = 40, 12, 16
COLUMNS = (
    Column("seen_last"),
    Column("flag_last", dtype=torch.bool),
    Column("wide_last", shape=(3,), dtype=torch.float16),
    Column("narrow_sum", rule="sum"),
    Column("wide_sum", shape=(3,), rule="sum"),
    Column("count_sum", dtype=torch.int32, rule="sum"),
    Column("short_ring", rule="ring", keep=2),
    Column("wide_ring", shape=(2, 2), dtype=torch.float16, rule="ring", keep=5),
)


def make_ledger(columns: tuple[Column, ...] = COLUMNS) -> Ledger:
    ledger = Ledger([str(row) for row in range(NUM_ROWS)], [0] * NUM_ROWS, ["a"])
    ledger.add("test", *columns)
    return ledger


def draw(step: int, rank: int, column: Column) -> tuple[Tensor, Tensor]:
    """Rows repeat within a write and across ranks; values span many magnitudes."""
    g = torch.Generator().manual_seed(1000 * step + rank)
    rows = torch.randint(NUM_ROWS, (SIZE + rank,), generator=g)
    g.manual_seed(10_000 + 1000 * step + 10 * rank + len(column.name))
    values = torch.randn(len(rows), *column.shape, generator=g)
    return rows, values * 10.0 ** torch.randint(-3, 4, (1,), generator=g)


def plain(ledger: Ledger) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in ledger.state().items()}


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values.tobytes() == right[name].tobytes(), name


def write_alone(steps: range, ledger: Ledger) -> None:
    """Write what both ranks write, by stamp and rank; under `last` the lowest rank comes last."""
    for step in steps:
        for column in COLUMNS:
            for rank in (1, 0) if column.rule == "last" else (0, 1):
                ledger.write(column.name, *draw(step, rank, column), stamp=step)


def write_here(steps: range, ledger: Ledger) -> None:
    for step in steps:
        for column in COLUMNS:
            ledger.write(column.name, *draw(step, dist.get_rank(), column), stamp=step)


def two_epochs_on_a_rank() -> dict[str, np.ndarray]:
    ledger = make_ledger()
    write_here(range(STEPS), ledger)
    ledger.sync()
    write_here(range(STEPS, 2 * STEPS), ledger)
    ledger.sync()
    return plain(ledger)


def test_two_ranks_equal_one_process_to_the_bit_for_all_rules(ranks: Any):
    alone = make_ledger()
    write_alone(range(2 * STEPS), alone)
    first, second = ranks.run(two_epochs_on_a_rank)
    assert_same_bits(first, plain(alone))
    assert_same_bits(second, plain(alone))


def one_sum_on_a_rank(by_rank: list[list[float]]) -> float:
    ledger = make_ledger((Column("total", rule="sum"),))
    for step, value in enumerate(by_rank[dist.get_rank()]):
        ledger.write("total", torch.tensor([3]), torch.tensor([value]), stamp=step)
    ledger.sync()
    return float(ledger.read("total")[3])


def test_sums_are_added_by_stamp_not_rank_by_rank(ranks: Any):
    # In float32, 1e8 swallows 1: by stamp (1e8 + 1) + (-1e8 + 1) is 1; the rank sums give 2.
    assert ranks.run(one_sum_on_a_rank, [[1e8, -1e8], [1.0, 1.0]]) == [1.0, 1.0]


def newest_on_a_rank() -> tuple[list[float], list[float], list[float]]:
    ledger = make_ledger((Column("last"), Column("ring", rule="ring", keep=3)))
    rank = dist.get_rank()
    # Row 0: equal stamps. Row 1: rank 1 is newer. Row 2: rank 0 alone.
    stamps = {0: 5, 1: 5 + rank, 2: 9}
    for row, stamp in stamps.items():
        if row < 2 or rank == 0:
            for name in ("last", "ring"):
                ledger.write(name, torch.tensor([row]), torch.tensor([10.0 + rank]), stamp=stamp)
    before = ledger.read("last")[:3].tolist()
    ledger.sync()
    return before, ledger.read("last")[:3].tolist(), ledger.read("ring")[0].nan_to_num(-1).tolist()


def test_newest_stamp_wins_then_lowest_rank(ranks: Any):
    (before0, after0, ring0), (before1, after1, ring1) = ranks.run(newest_on_a_rank)
    assert before0 == [10, 10, 10]
    assert before1[:2] == [11, 11]
    assert np.isnan(before1[2])
    assert after0 == after1 == [10, 11, 10]
    assert ring0 == ring1 == [-1, 10, 11]


def unequal_columns_on_a_rank() -> tuple[dict[str, np.ndarray], int]:
    ledger = make_ledger()
    rank = dist.get_rank()
    for position, column in enumerate(COLUMNS):
        # One column is written by nobody, the others by one rank or the other.
        if position and position % 2 == rank:
            ledger.write(column.name, *draw(1, rank, column), stamp=1)
    ledger.sync()
    held = sum(cells.base is not None or bool(cells.log) for cells in ledger._cells.values())
    return plain(ledger), held


def test_ranks_may_write_different_columns(ranks: Any):
    alone = make_ledger()
    for position, column in enumerate(COLUMNS):
        if position:
            alone.write(column.name, *draw(1, position % 2, column), stamp=1)
    for state, held in ranks.run(unequal_columns_on_a_rank):
        assert_same_bits(state, plain(alone))
        assert held == 0


def other_order_on_a_rank() -> list[float]:
    columns = (Column("one", rule="sum"), Column("two", rule="sum"))
    ledger = make_ledger(columns[:: 1 - 2 * dist.get_rank()])
    ledger.write("one", torch.tensor([0]), torch.tensor([1.0]), stamp=0)
    ledger.sync()
    return [float(ledger.read(name)[0]) for name in ("one", "two")]


def test_order_in_which_columns_were_added_does_not_matter(ranks: Any):
    assert ranks.run(other_order_on_a_rank) == [[2.0, 0.0]] * 2


def missing_column_on_a_rank() -> str:
    ledger = make_ledger(COLUMNS[: 2 + dist.get_rank()])
    with pytest.raises(LedgerError) as caught:
        ledger.sync()
    return caught.value.message


def test_ranks_with_other_columns_are_refused_on_every_rank(ranks: Any):
    messages = ranks.run(missing_column_on_a_rank)
    assert all("different ledger columns" in message for message in messages)
    assert "wide_last" in messages[1]


def unsynced_on_a_rank(path: str) -> list[str]:
    ledger = make_ledger()
    ledger.write("seen_last", torch.tensor([0]), torch.tensor([1.0]), stamp=0)
    messages = []
    for act in (ledger.state, lambda: ledger.save(path)):
        with pytest.raises(LedgerError) as caught:
            act()
        messages.append(caught.value.message)
    return messages


def test_unsynced_writes_cannot_be_saved(ranks: Any, tmp_path: Any):
    for messages in ranks.run(unsynced_on_a_rank, str(tmp_path / "ledger")):
        assert all("`seen_last`" in message for message in messages)
    assert not list(tmp_path.iterdir())


def reused_tensors_on_a_rank() -> list[float]:
    ledger = make_ledger((Column("total", rule="sum"),))
    rows, values = torch.tensor([0]), torch.tensor([1.0])
    for step in range(3):
        rows.fill_(step)
        values.fill_(step + 1)
        ledger.write("total", rows, values, stamp=step)
    ledger.sync()
    return ledger.read("total")[:4].tolist()


def test_caller_may_reuse_the_tensors_it_wrote(ranks: Any):
    assert ranks.run(reused_tensors_on_a_rank) == [[2, 4, 6, 0]] * 2


def fail_from(rank: int) -> None:
    if dist.get_rank() >= rank:
        raise ValueError("a fault of the test")


def rank_number() -> int:
    return dist.get_rank()


def test_pool_shows_the_traceback_of_every_failed_rank(ranks: Any):
    with pytest.raises(Exception, match="a fault of the test") as caught:
        ranks.run(fail_from, 0)
    assert "rank 0: Traceback" in str(caught.value)
    assert "rank 1: Traceback" in str(caught.value)
    assert ranks.run(rank_number) == [0, 1]


@pytest.mark.slow
def test_pool_starts_again_after_a_failure_on_one_rank(ranks: Any):
    with pytest.raises(Exception, match="a fault of the test"):
        ranks.run(fail_from, 1)
    assert ranks.run(rank_number) == [0, 1]
