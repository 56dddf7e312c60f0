"""The cells of one column, and how a write changes them.

Shapes: N rows of the ledger, B entries of one write, K length of a ring.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from errata.ledger.columns import Column

__all__ = ["Cells", "Places", "Write", "cells_of", "find_places", "new_cells"]

READ_BLOCK = 1 << 22
"""Ring entries put in order at once; their 8-byte positions would else outgrow the column."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the repeats of each row stand within one write."""

    first: Int[Tensor, " B"]
    """Position of the first entry of the same row."""
    order: Int[Tensor, " B"]
    """Positions sorted by row, earlier entries first."""
    start: Int[Tensor, " B"]
    """Where the entries of the same row begin in `order`."""
    before: Int[Tensor, " B"]
    """How many entries of the same row come earlier."""
    count: Int[Tensor, " B"]
    """How many entries the same row has."""


def find_places(rows: Int[Tensor, " B"]) -> Places:
    """Find the repeats of each row, without waiting for an accelerator."""
    by_row, order = rows.sort(stable=True)
    start = torch.searchsorted(by_row, rows)
    count = torch.searchsorted(by_row, rows, right=True) - start
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(rows), device=rows.device)
    return Places(order[start], order, start, rank - start, count)


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One logged write."""

    stamp: int
    rank: int
    rows: Int[Tensor, " B"]
    values: Tensor


@dataclass(slots=True, eq=False)
class Cells:
    """One column as this rank holds it."""

    column: Column
    owner: str
    values: Tensor
    counts: Int[Tensor, " N"] | None
    """Entries held per row; None for sums, which do not count."""
    heads: Int[Tensor, " N"] | None
    """Where the oldest entry of a ring stands; the next write goes there. None otherwise."""
    newest: int | None = None
    """Stamp of the newest write since the last sync."""
    log: list[Write] = field(default_factory=list)
    """Writes of this rank that other ranks have not seen; empty in a world of one."""
    base: tuple[Tensor, Tensor | None, Tensor | None] | None = None
    """Values, counts and heads of the last sync, kept only while the log holds something."""

    def read(self, rows: Int[Tensor, " n"] | None = None) -> Tensor:
        """Copy the values of some rows, or of all; rings as [n, K, ...], oldest entry first."""
        if self.heads is None:
            return self.values.clone() if rows is None else self.values[rows]
        if rows is None:
            rows = torch.arange(len(self.values), device=self.values.device)
        block = max(1, READ_BLOCK // self.column.keep)
        parts = [self._oldest_first(part) for part in torch.split(rows, block)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def apply(self, rows: Int[Tensor, " B"], new: Tensor, places: Places | None) -> None:
        """Change the cells by one write.

        Repeats of a row within the write: ``sum`` adds each, ``ring`` appends them in order, and
        under ``last`` the first one counts, as the lowest rank does when ranks share a batch.

        Args:
            rows: [B] int64.
            new: [B, ...] of the column's type.
            places: Result of `find_places` on `rows`; sums do not need it.
        """
        if self.counts is None:
            self.values.index_add_(0, rows, new)
            return
        assert places is not None
        # Cells written more than once by one copy get equal values, as copies know no order.
        if self.heads is None:
            self.values.index_copy_(0, rows, new.index_select(0, places.first))
            self.counts.index_fill_(0, rows, 1)
            return
        keep = self.column.keep
        heads = self.heads.index_select(0, rows)
        slots = (heads + places.before).remainder_(keep)
        # With more repeats than the ring is long, the slot belongs to the newest that reaches it.
        laps = (places.count - 1 - places.before).div_(keep, rounding_mode="floor")
        source = places.order[places.start + places.before + laps * keep]
        flat = self.values.view(-1, *self.column.shape)
        flat.index_copy_(0, rows * keep + slots, new.index_select(0, source))
        heads = (heads + places.count).remainder_(keep).to(self.heads.dtype)
        self.heads.index_copy_(0, rows, heads)
        held = (self.counts.index_select(0, rows) + places.count).clamp_(max=keep)
        self.counts.index_copy_(0, rows, held.to(self.counts.dtype))

    def parts(self) -> dict[str, Tensor]:
        """Name the tensors of a saved state: the column, and ``NAME.filled`` where it counts."""
        name = self.column.name
        if self.counts is None:
            return {name: self.values}
        return {name: self.values, f"{name}.filled": self.counts}

    def remember(self, write: Write) -> None:
        """Log a write, and keep what the cells were before the first one."""
        if self.base is None:
            counts = None if self.counts is None else self.counts.clone()
            heads = None if self.heads is None else self.heads.clone()
            self.base = (self.values.clone(), counts, heads)
        self.log.append(write)

    def rewind(self) -> None:
        """Go back to the last sync; the log stays."""
        if self.base is not None:
            for mine, old in zip((self.values, self.counts, self.heads), self.base, strict=True):
                if mine is not None and old is not None:
                    mine.copy_(old)

    def forget(self) -> None:
        """Drop log and base; the values stay."""
        self.newest, self.base = None, None
        self.log.clear()

    def replace(self, values: Tensor, counts: Tensor | None) -> None:
        """Take over values, with rings oldest entry first, and counts."""
        self.values.copy_(values)
        if self.counts is not None and counts is not None:
            self.counts.copy_(counts)
        if self.heads is not None:
            self.heads.zero_()
        self.forget()

    def _oldest_first(self, rows: Tensor) -> Tensor:
        assert self.heads is not None
        keep = self.column.keep
        slots = self.heads[rows, None] + torch.arange(keep, device=rows.device)
        return self.values[rows[:, None], slots.remainder_(keep)]


def new_cells(column: Column, owner: str, num_rows: int, device: torch.device) -> Cells:
    """Make a column in which no row has been written."""
    values = torch.full(
        column.cells(num_rows), column.first_value, dtype=column.dtype, device=device
    )
    return cells_of(column, owner, values, None)


def cells_of(column: Column, owner: str, values: Tensor, counts: Tensor | None) -> Cells:
    """Wrap values, with rings oldest entry first; no `counts` means that no row was written."""
    zeros = torch.zeros(len(values), dtype=torch.int32, device=values.device)
    if column.rule == "sum":
        return Cells(column, owner, values, None, None)
    heads = zeros.clone() if column.rule == "ring" else None
    return Cells(column, owner, values, zeros if counts is None else counts, heads)
