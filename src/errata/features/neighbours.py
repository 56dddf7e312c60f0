"""The nearest rows of every row: exact, in blocks, the same to the bit however it is computed.

Coordinates are rounded to multiples of 2**-26 of the longest row (2**-25 for distances), a quarter
of what single precision keeps. Every sum of their products is then exact in double precision, in
any order: block size, threads and device change nothing, equal rows are equally near, and a tie is
a tie.

Shapes: N rows, M rows that may be neighbours, q rows that are asked about, D features, k
neighbours, b rows and S columns of a block.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError, unknown_name

__all__ = ["METRICS", "Neighbours", "nearest", "nearest_by_faiss"]

METRICS = ("cosine", "euclidean")

_STRIP = 16384
_TILE = 4096
_ROWS = 256
_GROUP = 64
_VALUES = 2**22
"""Similarities held at a time: 32 MB in double precision."""
_SPARE = 32


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of some rows, the nearest first.

    Attributes:
        rows: [q, k] row numbers.
        similarity: [q, k] float64: the cosine, or minus the Euclidean distance.
    """

    rows: Tensor
    similarity: Tensor


def nearest(
    features: Float[Tensor, "N D"],
    *,
    k: int,
    metric: str = "cosine",
    among: Int[Tensor, " M"] | None = None,
    queries: Int[Tensor, " q"] | None = None,
    values: int = _VALUES,
) -> Neighbours:
    """Find the `k` nearest rows of each row, never itself; of equally near ones the lowest row.

    Exact. Time grows with q times M times D, and memory holds two copies of the features in double
    precision and `values` numbers.

    Args:
        features: Finite, on any device with double precision. The cosine of a row of zeros is 0.
        k: 1 or more; where fewer other rows may be neighbours, so many are given.
        metric: One of `METRICS`.
        among: Rows that may be neighbours, in rising order; None is all.
        queries: Rows that are asked about; None is all.
        values: Similarities held at a time. It changes the time alone.

    Raises:
        SettingsError: `k` or `metric` is not allowed, or a feature is NaN or infinite.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest(points, k=1).rows.tolist()
        [[1], [0], [1]]
    """
    table, base, asked = _prepared(features, k, metric, among, queries)
    most = _available(base, asked, k)
    if most < 1 or not len(asked):
        empty = torch.empty(len(asked), 0, dtype=torch.int64, device=features.device)
        return Neighbours(empty, empty.double())
    search = _Search(table, base, metric, values)
    found = [search.of(rows, most) for rows in search.blocks(asked)]
    similarity = torch.cat([each.similarity for each in found])
    return Neighbours(torch.cat([each.rows for each in found]), _told(similarity, metric))


def nearest_by_faiss(
    features: Float[Tensor, "N D"],
    *,
    k: int,
    metric: str = "cosine",
    among: Int[Tensor, " M"] | None = None,
    queries: Int[Tensor, " q"] | None = None,
) -> Neighbours:
    """Find the `k` nearest rows with faiss, which is faster for millions of rows.

    A flat index in single precision chooses k + 32 candidates, which are put in order with the
    arithmetic of `nearest`. The answer is that of `nearest` unless more rows than that are as near
    as the last one, to the rounding of single precision.

    Args:
        features: Finite.
        k: 1 or more.
        metric: One of `METRICS`.
        among: As for `nearest`.
        queries: As for `nearest`.

    Raises:
        SettingsError: faiss is not installed, or an argument is not allowed.
    """
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        raise SettingsError(
            "faiss is not installed; allowed: `nearest`, which gives the same answer",
            hint="install the package `faiss-cpu`",
        ) from None
    table, base, asked = _prepared(features, k, metric, among, queries)
    most = _available(base, asked, k)
    index = (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(table.shape[1])
    single = table.float().cpu().numpy()
    index.add(single[base.cpu().numpy()])
    wanted = min(len(base), k + 1 + _SPARE)
    _, candidates = index.search(single[asked.cpu().numpy()], wanted)
    found = base[torch.from_numpy(candidates).to(base)]
    found = found.masked_fill(found == asked[:, None], -1).sort(1).values
    blocks = zip(torch.split(asked, 1024), torch.split(found, 1024), strict=True)
    near = [_likeness(table[rows], table[others.clamp_min(0)], metric) for rows, others in blocks]
    similarity = torch.cat(near).masked_fill(found < 0, -torch.inf)
    best = _in_order(similarity, found, most)
    return Neighbours(best.rows, _told(best.similarity, metric))


def _prepared(
    features: Tensor, k: int, metric: str, among: Tensor | None, queries: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if k < 1:
        raise SettingsError(f"k `{k}` is not allowed; allowed: 1 or more", hint="10 is usual")
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise SettingsError(
            f"row {row} of the features holds NaN or infinity; allowed: finite numbers",
            hint="leave the rows out, or extract the features again",
        )
    everyone = torch.arange(len(features), device=features.device)
    base = everyone if among is None else among
    return _rounded(features, metric), base, everyone if queries is None else queries


def _available(base: Tensor, asked: Tensor, k: int) -> int:
    """Count the neighbours that every row can have: a row of `base` is none to itself."""
    return min(k, len(base) - int(bool(torch.isin(asked, base).any())))


def _rounded(features: Tensor, metric: str) -> Tensor:
    """Put rows on a grid that is so coarse that sums of products are exact."""
    x = features.double()
    if metric == "cosine":
        # Division first: squares of tiny or huge numbers would leave the range of the type.
        x = x / x.abs().amax(1, keepdim=True).clamp_min(1e-300)
        x = x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)
        return (x * 2.0**26).round() / 2.0**26
    if not len(x):
        return x
    # A shift changes no distance; the middle of the range does not depend on the order of rows.
    x = x - (x.amax(0) + x.amin(0)) / 2
    longest = float(x.abs().amax()) or 1.0
    longest *= float((x / longest).square().sum(1).amax().sqrt()) or 1.0
    # A power of two, so that the way back is exact.
    scale = 2.0 ** math.ceil(math.log2(longest))
    return (x / scale * 2.0**25).round() / 2.0**25 * scale


def _likeness(
    rows: Float[Tensor, "b D"], others: Float[Tensor, "b m D"], metric: str
) -> Float[Tensor, "b m"]:
    """Give the cosine, or minus the squared distance, of rows to others of their own."""
    if metric == "cosine":
        return (rows[:, None] * others).sum(2)
    return -(rows[:, None] - others).square().sum(2)


def _told(similarity: Tensor, metric: str) -> Tensor:
    return similarity if metric == "cosine" else -(-similarity).clamp_min(0).sqrt()


def _in_order(near: Tensor, rows: Tensor, k: int) -> Neighbours:
    """Sort by falling similarity, then by row, and keep the first `k`."""
    by_row = rows.argsort(1)
    near, rows = near.gather(1, by_row), rows.gather(1, by_row)
    order = near.argsort(dim=1, descending=True, stable=True)[:, :k]
    return Neighbours(rows.gather(1, order), near.gather(1, order))


class _Search:
    """The rows that may be neighbours, ready to be compared with blocks of rows."""

    def __init__(self, table: Tensor, base: Tensor, metric: str, values: int) -> None:
        self.table = table
        self.base = base
        self.squares = table.square().sum(1) if metric == "euclidean" else None
        self.others = table if len(base) == len(table) else table[base]
        self.tile = min(_TILE, -(-len(base) // _GROUP) * _GROUP)
        tiles = -(-min(_STRIP, len(base)) // self.tile)
        self.rows = max(1, min(_ROWS, values // (tiles * self.tile)))
        # One buffer for all blocks: fresh memory costs more than the products.
        self.buffer = table.new_empty(tiles, self.rows, self.tile)

    def blocks(self, asked: Tensor) -> tuple[Tensor, ...]:
        """Cut the rows that are asked about into blocks of b."""
        return torch.split(asked, self.rows)

    def of(self, rows: Int[Tensor, " b"], k: int) -> Neighbours:
        """Find the `k` nearest of a block of rows; the similarities are those of `_like`."""
        near = self.table.new_empty(len(rows), 0)
        place = torch.zeros_like(near, dtype=torch.int64)
        for start in range(0, len(self.base), self.buffer.shape[0] * self.tile):
            tops, places = _best(self._strip(rows, start), k + 1)
            near = torch.cat([near, tops], 1)
            place = torch.cat([place, places + start], 1)
            near, kept = near.topk(min(k + 1, near.shape[1]), dim=1)
            place = place.gather(1, kept)
        found = _in_order(near, self.base[place.clamp_max(len(self.base) - 1)], k)
        if near.shape[1] > k:
            # One more than was asked for tells of ties at the last place, which `topk` decides by
            # no rule. Those rows are asked again.
            tied = (near[:, k - 1] == near[:, k]).nonzero()[:, 0]
            for part in torch.split(tied, max(1, _VALUES // 4 // len(self.base))):
                again = self._lowest(rows[part], near[part, k - 1], k)
                found.rows[part], found.similarity[part] = again.rows, again.similarity
        return found

    def _strip(self, rows: Tensor, start: int) -> Float[Tensor, "T b S"]:
        """Fill the buffer with the similarities of rows [b] to a strip of columns."""
        near = self.buffer[:, : len(rows)]
        here = self.table[rows]
        # Tiles that stay in the cache are several times as fast as one large product.
        for tile in near:
            stop = min(start + self.tile, len(self.base))
            width = max(0, stop - start)
            tile[:, width:] = -torch.inf
            if width:
                self._like(here, rows, slice(start, stop), tile[:, :width])
            start += self.tile
        return near

    def _like(self, here: Tensor, rows: Tensor, columns: slice, out: Tensor) -> None:
        """Write how alike rows and columns are; minus infinity where they are the same row."""
        torch.mm(here, self.others[columns].T, out=out)
        if self.squares is not None:
            out.mul_(2).sub_(self.squares[rows, None]).sub_(self.squares[self.base[columns]])
        place = torch.searchsorted(self.base[columns], rows)
        inside = (place < out.shape[1]).nonzero()[:, 0]
        place = place[inside]
        same = self.base[columns][place] == rows[inside]
        out[inside[same], place[same]] = -torch.inf

    def _lowest(self, rows: Tensor, last: Tensor, k: int) -> Neighbours:
        """Find the `k` nearest where several are as near as the last one: the lowest of them."""
        near = self.table.new_empty(len(rows), len(self.base))
        self._like(self.table[rows], rows, slice(None), near)
        above, level = near > last[:, None], near == last[:, None]
        level &= level.cumsum(1) <= k - above.sum(1, keepdim=True)
        chosen = (above | level).nonzero()[:, 1].view(len(rows), k)
        return _in_order(near.gather(1, chosen), self.base[chosen], k)


def _best(near: Float[Tensor, "T b S"], count: int) -> tuple[Tensor, Tensor]:
    """Give the `count` largest similarities [b, count] of a strip, and their columns."""
    # A group of columns holds one of the best only if its maximum is one of the best maxima, and
    # maxima are much faster to find than the best of all.
    tiles, rows, columns = near.shape
    groups = columns // _GROUP
    near = near.view(tiles, rows, groups, _GROUP)
    maxima = near.amax(3).transpose(0, 1).reshape(rows, tiles * groups)
    chosen = maxima.topk(min(count, tiles * groups), dim=1).indices
    row = torch.arange(rows, device=near.device)[:, None]
    values = near[chosen // groups, row, chosen % groups].flatten(1)
    tops, place = values.topk(min(count, values.shape[1]), dim=1)
    return tops, chosen.gather(1, place // _GROUP) * _GROUP + place % _GROUP
