"""The ledger itself: add, write, read. Merging is in `sync`, files are in `store`.

Shapes: N rows, B rows of one write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor

from errata.errors import LedgerError, LedgerMismatchError
from errata.ledger import store, sync
from errata.ledger.cells import Cells, Places, Write, find_places, new_cells
from errata.ledger.columns import Column
from errata.ledger.identity import as_labels, check_rows, fingerprint, what_differs

__all__ = ["Ledger"]


class Ledger:
    """Everything known about every sample: columns addressed by row, with one owner each.

    Every rank holds the whole ledger. A rank sees its own writes at once and those of others
    after `sync`. Each rank writes only what it computed: a sum that all ranks write alike is
    counted once per rank.

    Args:
        ids: [N] unique names of the samples.
        given: [N] class numbers as delivered; -1 is unlabelled.
        classes: Names of the classes.
        device: Where the columns live.

    Raises:
        LedgerError: An id is repeated, or the labels do not fit the ids or the classes.

    Example:
        >>> ledger = Ledger(["a", "b", "c"], [0, 1, 1], classes=["cat", "dog"])
        >>> ledger.add("track", Column("loss"))
        >>> ledger.write("loss", torch.tensor([0, 2]), torch.tensor([0.5, 2.0]), stamp=1)
        >>> ledger.read("loss")
        tensor([0.5000,    nan, 2.0000])
    """

    def __init__(
        self,
        ids: Sequence[str],
        given: Tensor | np.ndarray | Sequence[int],
        classes: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self.classes: tuple[str, ...] = tuple(classes)
        self.device = torch.device(device)
        labels = as_labels(given)
        check_rows(self.ids, labels, self.classes)
        self.given: Int[Tensor, " N"] = torch.from_numpy(labels).to(self.device)
        self.fingerprint: str = fingerprint(self.ids, labels)
        self._cells: dict[str, Cells] = {}
        self._path: Path | None = None
        self._seen_rows: tuple[Tensor, int, Places] | None = None

    @property
    def num_rows(self) -> int:
        """Count the samples."""
        return len(self.ids)

    @property
    def columns(self) -> tuple[Column, ...]:
        """List the columns in the order they were added."""
        return tuple(cells.column for cells in self._cells.values())

    def has(self, name: str) -> bool:
        """Tell whether the column exists."""
        return name in self._cells

    def owner(self, name: str) -> str:
        """Name who writes the column."""
        return self._find(name).owner

    def add(self, owner: str, *columns: Column) -> None:
        """Add columns; adding the same ones again for the same owner changes nothing.

        Raises:
            LedgerError: A column belongs to another owner, exists with another schema, or cannot
                be stored. Then none is added.
        """
        cells = dict(self._cells)
        for column in columns:
            column.check()
            if column.name in cells:
                _check_again(owner, column, cells[column.name])
            else:
                cells[column.name] = new_cells(column, owner, self.num_rows, self.device)
        self._cells = cells

    def write(self, name: str, rows: Int[Tensor, " B"], values: Tensor, *, stamp: int) -> None:
        """Write one entry per row, by the rule of the column.

        The values are detached and cast to the column. A row may repeat within one write: sums
        add each entry, rings append them in order, ``last`` takes the first.

        Args:
            name: The column.
            rows: int64 on the ledger's device.
            values: [B, ...] of any numeric type, on any device.
            stamp: When this was seen, counted in steps. Between two syncs the stamps of a column
                never go back. On one rank, a later write of the same stamp counts as newer.

        Raises:
            LedgerError: No such column, or the stamp goes back.
        """
        cells = self._cells.get(name) or self._find(name)
        assert values.shape == (len(rows), *cells.column.shape), (name, values.shape, len(rows))
        if cells.newest is not None and stamp < cells.newest:
            raise LedgerError(
                f"column `{name}` was written at stamp {cells.newest}, and now at {stamp}; "
                "allowed: stamps that never go back between two syncs",
                hint="use a counter that only grows, for example the steps since the start",
            )
        cells.newest = stamp
        new = values.detach().to(cells.values)
        if sync.world_size() > 1:
            # The caller may reuse its tensors before the sync.
            cells.remember(Write(stamp, dist.get_rank(), rows.clone(), new.clone()))
        cells.apply(rows, new, None if cells.counts is None else self._places(rows))

    def read(self, name: str, rows: Int[Tensor, " B"] | None = None) -> Tensor:
        """Give a copy of the column, or of some rows of it.

        A ring comes as [n, keep, ...], oldest entry first; places not filled yet are at the front
        and hold the first value of the column.

        Raises:
            LedgerError: No such column.
        """
        return self._find(name).read(rows)

    def filled(self, name: str, rows: Int[Tensor, " B"] | None = None) -> Int[Tensor, " n"]:
        """Count the entries that rows hold: 0 or 1 under ``last``, 0 to `keep` in a ring.

        Raises:
            LedgerError: No such column, or a sum, which does not count its writes.
        """
        counts = self._find(name).counts
        if counts is None:
            raise LedgerError(
                f"column `{name}` is a sum and does not count its writes",
                hint="keep a second sum of ones, as `times_seen` does",
            )
        return (counts if rows is None else counts[rows]).long()

    def sync(self) -> None:
        """Make the ledger equal on all ranks; every rank must call it at the same point.

        The result equals, to the bit, one process that received the writes of all ranks by stamp,
        then by rank (under ``last``, the lowest rank of a stamp has the last word).

        Raises:
            LedgerError: The ranks have added different columns.
        """
        if sync.world_size() > 1:
            sync.merge(list(self._cells.values()))
        else:
            for cells in self._cells.values():
                cells.forget()

    def state(self) -> dict[str, Tensor]:
        """Copy all columns and counts (``NAME.filled``), for an exact resume.

        Raises:
            LedgerError: Other ranks have not seen all writes yet.
        """
        self._refuse_unsynced()
        state: dict[str, Tensor] = {}
        for name, cells in self._cells.items():
            state[name] = cells.read()
            if cells.counts is not None:
                state[f"{name}.filled"] = cells.counts.clone()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Columns that it does not know keep their values.

        Raises:
            LedgerError: A column of the state is unknown here, or has another shape or type.
        """
        mine: dict[str, Tensor] = {}
        for cells in self._cells.values():
            mine |= cells.parts()
        for name, tensor in state.items():
            if name not in mine:
                raise LedgerError(
                    f"saved column `{name}` is unknown here; allowed: {', '.join(mine) or 'none'}",
                    hint="add the columns of the saved run first, or start afresh",
                )
            if tensor.shape != mine[name].shape or tensor.dtype != mine[name].dtype:
                raise LedgerError(
                    f"saved column `{name}` is {tensor.dtype} {tuple(tensor.shape)}; "
                    f"here it is {mine[name].dtype} {tuple(mine[name].shape)}",
                    hint="resume with the data and the recipe of the saved run",
                )
        saved = [cells for cells in self._cells.values() if cells.parts().keys() & state.keys()]
        for cells in saved:
            missing = cells.parts().keys() - state.keys()
            if missing:
                raise LedgerError(
                    f"saved state lacks `{min(missing)}`",
                    hint="pass all that `state` gave, values and counts",
                )
        for cells in saved:
            name = cells.column.name
            cells.replace(state[name], state.get(f"{name}.filled"))

    def save(self, path: str | Path) -> None:
        """Write the ledger as a directory of plain files; in a world of ranks, on one of them.

        It appears under its name only when it is complete, and replaces an older ledger there.

        Raises:
            LedgerError: Other ranks have not seen all writes yet.
            OutputError: The directory cannot be written, or holds something else.
        """
        self._refuse_unsynced()
        given = self.given.cpu().numpy()
        contents = store.Contents(
            self.ids, given, self.classes, self.fingerprint, tuple(self._cells.values())
        )
        store.write(Path(path), contents)

    @classmethod
    def load(cls, path: str | Path, memmap: bool = True) -> Ledger:
        """Read a saved ledger. Columns are on the CPU; with `memmap`, they are read when needed.

        Changes to a loaded ledger stay in memory until it is saved again.

        Raises:
            LedgerError: There is no ledger, it is damaged, or its format is newer than this code.
        """
        contents = store.read(Path(path), memmap=memmap)
        ledger = cls(contents.ids, contents.given, contents.classes)
        ledger._path = Path(path)
        ledger._cells = {cells.column.name: cells for cells in contents.cells}
        return ledger

    def check(self, ids: Sequence[str], given: Tensor | np.ndarray | Sequence[int]) -> None:
        """Make sure that the ledger belongs to these data.

        Raises:
            LedgerMismatchError: The ids, their order or the given labels differ.
        """
        labels = as_labels(given)
        theirs = fingerprint(ids, labels)
        if theirs == self.fingerprint:
            return
        name = f"ledger `{self._path}`" if self._path else "this ledger"
        raise LedgerMismatchError(
            f"{name} belongs to other data: {self.num_rows} rows, fingerprint "
            f"`{self.fingerprint[:4]}`; got {len(ids)} rows, `{theirs[:4]}`",
            hint=what_differs(self.ids, self.given.cpu().numpy(), tuple(ids), labels)
            + "; use the data of the ledger, or start a new audit",
        )

    def _find(self, name: str) -> Cells:
        cells = self._cells.get(name)
        if cells is None:
            hint = "read `ledger.given`" if name == "given" else "add the column before using it"
            raise LedgerError(
                f"ledger has no column `{name}`; it has: {', '.join(self._cells) or 'none'}",
                hint=hint,
            )
        return cells

    def _places(self, rows: Tensor) -> Places:
        # A training step writes many columns at the same rows, so the last answer is kept. It
        # holds while the tensor is the same object and unchanged.
        if rows.is_inference():
            return find_places(rows)
        seen = self._seen_rows
        if seen is not None and seen[0] is rows and seen[1] == rows._version:
            return seen[2]
        places = find_places(rows)
        self._seen_rows = (rows, rows._version, places)
        return places

    def _refuse_unsynced(self) -> None:
        waiting = [name for name, cells in self._cells.items() if cells.log]
        if waiting:
            raise LedgerError(
                f"columns `{', '.join(waiting)}` hold writes that other ranks have not seen",
                hint="call `sync()` on every rank first",
            )


def _check_again(owner: str, column: Column, cells: Cells) -> None:
    if owner != cells.owner:
        raise LedgerError(
            f"column `{column.name}` belongs to `{cells.owner}`; `{owner}` cannot add it too",
            hint="read it, or write another column",
        )
    if not column.fits(cells.column):
        raise LedgerError(
            f"column `{column.name}` exists as {cells.column}; `{owner}` asks for {column}",
            hint="ask for the same schema in every stage, or use another name",
        )
