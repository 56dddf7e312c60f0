"""How the writes of several ranks become one ledger.

Ranks keep a log of their writes. At a sync every rank gathers all logs and replays them onto the
values of the last sync, one write at a time, in an order that all ranks agree on. The same
additions in the same order give the same bits as one process that received the writes in that
order, which a reduction of per-rank sums would not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from errata.errors import LedgerError
from errata.ledger.cells import Cells, Write, find_places
from errata.ledger.columns import Column

__all__ = ["merge", "replay", "world_size"]


def world_size() -> int:
    """Count the ranks that share the ledger: 1 without ``torch.distributed``."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


def replay(cells: Cells, writes: Iterable[Write]) -> None:
    """Apply writes of any ranks in the order that every rank agrees on.

    Writes go by stamp, then by rank, then as their rank made them. Under ``last`` the ranks of
    one stamp go from highest to lowest, so that the lowest has the last word.
    """
    sign = -1 if cells.column.rule == "last" else 1
    for write in sorted(writes, key=lambda write: (write.stamp, sign * write.rank)):
        places = None if cells.column.rule == "sum" else find_places(write.rows)
        cells.apply(write.rows, write.values, places)


def merge(columns: Sequence[Cells]) -> None:
    """Make the columns equal on all ranks; every rank must call this at the same point.

    Only columns that some rank has written travel. The process group must serve the device that
    the ledger lives on.

    Raises:
        LedgerError: The ranks have added different columns. All of them raise it.
    """
    # Ranks may have added the columns in another order; the collectives below need one order.
    columns = sorted(columns, key=lambda cells: cells.column.name)
    device = columns[0].values.device if columns else torch.device("cpu")
    _check_same_columns(columns, device)
    header = [[len(cells.log), _parcel_bytes(cells)] for cells in columns]
    mine = torch.tensor(header, dtype=torch.int64, device=device).view(-1, 2)
    headers = [part.tolist() for part in _gather(mine)]
    for position, cells in enumerate(columns):
        sizes = [part[position] for part in headers]
        longest = max(size for _, size in sizes)
        if longest:
            parcel = torch.nn.functional.pad(_pack(cells), (0, longest - _parcel_bytes(cells)))
            writes = [
                write
                for rank, part in enumerate(_gather(parcel))
                for write in _unpack(part, sizes[rank][0], rank, cells.column)
            ]
            cells.rewind()
            replay(cells, writes)
        cells.forget()


def _check_same_columns(columns: Sequence[Cells], device: torch.device) -> None:
    schemas = repr([(cells.column, cells.owner) for cells in columns]).encode()
    digest = int.from_bytes(hashlib.blake2b(schemas, digest_size=7).digest(), "big")
    digests = _gather(torch.tensor([digest], dtype=torch.int64, device=device))
    if len({int(part) for part in digests}) > 1:
        names = ", ".join(cells.column.name for cells in columns)
        raise LedgerError(
            f"ranks have different ledger columns; rank {dist.get_rank()} has `{names}`",
            hint="add the same columns for the same owners on every rank before the sync",
        )


def _gather(mine: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    return parts


def _entry_bytes(column: Column) -> int:
    return math.prod(column.shape) * column.dtype.itemsize


def _parcel_bytes(cells: Cells) -> int:
    entries = sum(len(write.rows) for write in cells.log)
    return 16 * len(cells.log) + (8 + _entry_bytes(cells.column)) * entries


def _pack(cells: Cells) -> Tensor:
    """Lay the log out as bytes: stamps, sizes and rows as int64, then the values as they are.

    Plain tensors travel, not pickled objects. The eight-byte parts come first so that every part
    starts at an address that its type allows.
    """
    device = cells.values.device
    if not cells.log:
        return torch.empty(0, dtype=torch.uint8, device=device)
    stamps = [write.stamp for write in cells.log]
    sizes = [len(write.rows) for write in cells.log]
    head = torch.tensor([*stamps, *sizes], dtype=torch.int64, device=device)
    rows = torch.cat([write.rows for write in cells.log])
    values = torch.cat([write.values for write in cells.log]).reshape(-1)
    return torch.cat([part.view(torch.uint8) for part in (head, rows, values)])


def _unpack(parcel: Tensor, num: int, rank: int, column: Column) -> list[Write]:
    if not num:
        return []
    head = parcel[: 16 * num].view(torch.int64).tolist()
    stamps, sizes = head[:num], head[num:]
    total = sum(sizes)
    at = 16 * num + 8 * total
    rows = torch.split(parcel[16 * num : at].view(torch.int64), sizes)
    values = parcel[at : at + total * _entry_bytes(column)].view(column.dtype)
    entries = torch.split(values.view(total, *column.shape), sizes)
    return [Write(stamp, rank, *part) for stamp, *part in zip(stamps, rows, entries, strict=True)]
