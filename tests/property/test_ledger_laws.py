"""Laws of the ledger: its rules against slow loops, merging, and the files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.errors import LedgerMismatchError
from errata.ledger import Column, Ledger
from errata.ledger.cells import Cells, Write, new_cells
from errata.ledger.store import from_line, to_line
from errata.ledger.sync import replay

NUM_ROWS = 5
COLUMNS = (
    Column("last"),
    Column("wide_last", shape=(2,)),
    Column("sum", rule="sum"),
    Column("wide_sum", shape=(2,), rule="sum"),
    Column("ring", rule="ring", keep=3),
    Column("ring_of_one", rule="ring", keep=1),
    Column("wide_ring", shape=(2,), rule="ring", keep=2),
)
any_column = st.sampled_from(COLUMNS)
# Lone surrogates included: Python puts bytes of file names that are no text into them.
any_text = st.text(st.characters(exclude_categories=()), max_size=8)


@dataclass(frozen=True)
class Event:
    stamp: int
    rank: int
    rows: tuple[int, ...]
    seed: int

    def write(self, column: Column) -> Write:
        g = torch.Generator().manual_seed(self.seed)
        # Magnitudes differ so much that the order of additions shows in the bits.
        scale = 10.0 ** torch.randint(-4, 5, (len(self.rows), *column.shape), generator=g)
        values = torch.randn(len(self.rows), *column.shape, generator=g) * scale
        return Write(self.stamp, self.rank, torch.tensor(self.rows, dtype=torch.int64), values)


events = st.lists(
    st.builds(
        Event,
        stamp=st.integers(0, 4),
        rank=st.integers(0, 2),
        rows=st.lists(st.integers(0, NUM_ROWS - 1), max_size=9).map(tuple),
        seed=st.integers(0, 1000),
    ),
    max_size=12,
)


def fresh(column: Column) -> Cells:
    return new_cells(column, "test", NUM_ROWS, torch.device("cpu"))


def make_ledger(*columns: Column) -> Ledger:
    ledger = Ledger([str(row) for row in range(NUM_ROWS)], [0] * NUM_ROWS, ["a"])
    ledger.add("test", *columns)
    return ledger


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.numpy().tobytes()


def slowly(column: Column, writes: list[Write]) -> tuple[np.ndarray, list[int]]:
    """Apply writes entry by entry, in their order; give values, and counts per row."""
    values = np.full(column.cells(NUM_ROWS), column.first_value, np.float32)
    counts = [0] * NUM_ROWS
    for write in writes:
        seen = set()
        for row, value in zip(write.rows.tolist(), write.values.numpy(), strict=True):
            if column.rule == "sum":
                values[row] += value
            elif column.rule == "ring":
                values[row] = np.concatenate([values[row][1:], value[None]])
                counts[row] = min(counts[row] + 1, column.keep)
            elif row not in seen:
                values[row] = value
                counts[row] = 1
            seen.add(row)
    return values, counts


@given(any_column, events)
def test_ledger_writes_equal_a_slow_loop(column: Column, drawn: list[Event]):
    writes = [event.write(column) for event in sorted(drawn, key=lambda event: event.stamp)]
    ledger = make_ledger(column)
    for write in writes:
        ledger.write(column.name, write.rows, write.values, stamp=write.stamp)
    values, counts = slowly(column, writes)
    assert bits(ledger.read(column.name)) == values.tobytes()
    if column.rule != "sum":
        assert ledger.filled(column.name).tolist() == counts


@given(any_column, events)
def test_replay_equals_a_slow_loop_over_stamps_and_ranks(column: Column, drawn: list[Event]):
    sign = -1 if column.rule == "last" else 1
    order = sorted(drawn, key=lambda event: (event.stamp, sign * event.rank))
    cells = fresh(column)
    replay(cells, [event.write(column) for event in drawn])
    values, counts = slowly(column, [event.write(column) for event in order])
    assert bits(cells.read()) == values.tobytes()
    assert cells.counts is None or cells.counts.tolist() == counts


@given(any_column, events)
def test_merge_does_not_depend_on_the_order_in_which_logs_arrive(
    column: Column, drawn: list[Event]
):
    logs: dict[int, list[Write]] = {rank: [] for rank in range(3)}
    for event in sorted(drawn, key=lambda event: event.stamp):
        logs[event.rank].append(event.write(column))
    first, second = fresh(column), fresh(column)
    replay(first, logs[0] + logs[1] + logs[2])
    replay(second, logs[2] + logs[0] + logs[1])
    assert bits(first.read()) == bits(second.read())


@given(any_column, events, events)
def test_every_rank_ends_with_the_same_bits_whatever_it_wrote_itself(
    column: Column, earlier: list[Event], drawn: list[Event]
):
    ranks = [fresh(column) for _ in range(3)]
    for cells in ranks:
        replay(cells, [event.write(column) for event in earlier])
    for event in sorted(drawn, key=lambda event: event.stamp):
        write = event.write(column)
        ranks[event.rank].remember(write)
        replay(ranks[event.rank], [write])
    everything = [write for cells in ranks for write in cells.log]
    for cells in ranks:
        cells.rewind()
        replay(cells, everything)
        cells.forget()
    once = fresh(column)
    replay(once, [event.write(column) for event in earlier])
    replay(once, [event.write(column) for event in sorted(drawn, key=lambda e: e.stamp)])
    assert {bits(cells.read()) for cells in ranks} == {bits(once.read())}


@given(st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, max_size=9), st.integers(0, 1000))
def test_a_batch_split_over_ranks_equals_the_whole_batch(rows: list[int], seed: int):
    for column in COLUMNS:
        whole = Event(0, 0, tuple(rows), seed).write(column)
        half = len(rows) // 2
        parts = [
            Write(0, 0, whole.rows[:half], whole.values[:half]),
            Write(0, 1, whole.rows[half:], whole.values[half:]),
        ]
        one, two = fresh(column), fresh(column)
        replay(one, [whole])
        replay(two, parts)
        assert bits(one.read()) == bits(two.read()), column


@given(any_text)
def test_every_text_fits_on_one_line_and_comes_back(text: str):
    line = to_line(text)
    line.encode("utf-8")
    assert not {"\n", "\r"} & set(line)
    assert from_line(line) == text


@settings(max_examples=40)
@given(
    st.lists(any_text, min_size=1, max_size=6, unique=True),
    st.lists(any_text, min_size=1, max_size=3, unique=True),
    st.sampled_from(COLUMNS),
    st.booleans(),
    st.data(),
)
def test_saved_ledger_equals_the_loaded_one(
    ids: list[str], classes: list[str], column: Column, memmap: bool, data: st.DataObject
):
    labels = st.integers(-1, len(classes) - 1)
    ledger = Ledger(ids, data.draw(st.tuples(*[labels] * len(ids))), classes)
    ledger.add("owner", column)
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=6))
    write = Event(0, 0, tuple(rows), 1).write(column)
    ledger.write(column.name, write.rows, write.values, stamp=0)
    with tempfile.TemporaryDirectory() as folder:
        ledger.save(Path(folder) / "ledger")
        loaded = Ledger.load(Path(folder) / "ledger", memmap=memmap)
        assert (loaded.ids, loaded.classes) == (tuple(ids), tuple(classes))
        loaded.check(ids, ledger.given)
        assert {name: bits(tensor) for name, tensor in loaded.state().items()} == {
            name: bits(tensor) for name, tensor in ledger.state().items()
        }
        # A memory-mapped ledger goes on as the one in memory does.
        for one in (ledger, loaded):
            one.write(column.name, write.rows, write.values, stamp=1)
        assert bits(loaded.read(column.name)) == bits(ledger.read(column.name))


@given(st.permutations(["a", "b", "c", "d"]), st.permutations([0, 0, 1, 2]))
def test_only_the_same_ids_and_labels_in_the_same_order_pass(ids: list[str], labels: list[int]):
    ledger = Ledger(["a", "b", "c", "d"], [0, 0, 1, 2], ["x", "y", "z"])
    if (ids, labels) == (["a", "b", "c", "d"], [0, 0, 1, 2]):
        ledger.check(ids, labels)
    else:
        with pytest.raises(LedgerMismatchError):
            ledger.check(ids, labels)
