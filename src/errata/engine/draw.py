"""From a plan to batches: which rows each step sees, in which order, on which rank.

Shapes: B rows of a batch over all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from errata.errors import SettingsError
from errata.types import Group, Lap

__all__ = ["Draw", "batches_of", "order_rows"]

Streams = Callable[[str], torch.Generator]


@dataclass(frozen=True, slots=True)
class Draw:
    """The rows of one step over all ranks, and the group that each was drawn from."""

    rows: Tensor
    """[B] int64 on the CPU."""
    group: Tensor
    """[B] int64 on the CPU."""

    def share(self, rank: int, ranks: int) -> Tensor:
        """Give the positions in the batch that a rank works on: a slice of every group."""
        groups = [(self.group == k).nonzero()[:, 0] for k in torch.unique(self.group)]
        return torch.cat([torch.tensor_split(group, ranks)[rank] for group in groups])


def order_rows(group: Group, length: int, given: Tensor, rng: torch.Generator) -> Tensor:
    """Draw `length` rows of a group in its order; a group that is too short is drawn again.

    ``shuffle`` takes every row equally often, but for one; ``class_balanced`` every class.

    Args:
        group: Rows [n] with their order.
        length: How many to draw; at least n for ``shuffle``, so that every row comes.
        given: Labels [N] of all rows, on the CPU.
        rng: Source of all randomness.
    """
    rows = group.rows.cpu()
    if group.order == "weighted":
        assert group.weights is not None, "a weighted group needs weights"
        picks = torch.multinomial(group.weights.cpu().double(), length, True, generator=rng)
        return rows[picks]
    if group.order == "class_balanced":
        members = [rows[given[rows] == label] for label in torch.unique(given[rows])]
        counts = torch.full((len(members),), length // len(members))
        counts[torch.randperm(len(members), generator=rng)[: length % len(members)]] += 1
        pairs = zip(members, counts.tolist(), strict=True)
        drawn = torch.cat([_repeat(own, count, rng) for own, count in pairs])
        return drawn[torch.randperm(length, generator=rng)]
    return _repeat(rows, length, rng)


def _repeat(rows: Tensor, length: int, rng: torch.Generator) -> Tensor:
    rounds = max(1, -(-length // len(rows)))
    shuffled = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(rounds)]
    return torch.cat(shuffled)[:length]


def batches_of(
    lap: Lap, size: int, given: Tensor, stream: Streams, *, ranks: int = 1
) -> Iterator[Draw]:
    """Split a lap into batches of at most `size` rows, none padded.

    Every batch takes an equal share from every group, within one row from batch to batch; the
    largest group is gone through once and the smaller ones are drawn again. A batch holds at
    least one row of every group for every rank, even where that is more than `size`.

    Raises:
        SettingsError: A group is empty, or has fewer rows than there are ranks.
    """
    shortest = min(len(group.rows) for group in lap.groups)
    if shortest < ranks:
        raise SettingsError(
            f"a group of the epoch's plan has {shortest} rows for {ranks} processes; allowed: at "
            "least one row for each",
            hint="train with fewer processes or give more labelled rows",
        )
    share = max(1, size // len(lap.groups))
    longest = max(len(group.rows) for group in lap.groups)
    steps = min(-(-longest // share), longest // ranks)
    split = []
    for index, group in enumerate(lap.groups):
        ordered = order_rows(group, longest, given, stream(f"draw/{index}"))
        split.append(torch.tensor_split(ordered, steps))
    for picks in zip(*split, strict=True):
        group_of = [torch.full((len(rows),), k) for k, rows in enumerate(picks)]
        yield Draw(torch.cat(picks), torch.cat(group_of))
