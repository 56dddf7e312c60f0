"""From rows to tensors on the training device: gather, normalise, augment.

Pictures travel as uint8. Sources in memory are gathered here; sources that decode files are read
by worker processes. Either way the augmentation runs on the device, on whole batches, so it does
not depend on the number of workers.

Shapes: B batch, N rows, then the shape of a sample: (channels, height, width) or (width,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from errata.data.augment import Draws, apply
from errata.types import Source

__all__ = ["Feed", "Scale", "measure_scale"]


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation, per channel of pictures or per feature of vectors."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


DECODED = 8192
"""Most files that are decoded to measure the scale of a source that is not in memory."""


def measure_scale(source: Source, *, block: int | None = None) -> Scale:
    """Measure mean and standard deviation of a source, on its own scale (pictures: 0 to 255).

    Args:
        source: Whose rows are read once: all of them, or `DECODED` spread evenly where they
            have to be decoded.
        block: Rows read at a time; None takes about 32 MB of them in double precision.
    """
    block = block or max(1, 2**22 // math.prod(source.shape))
    width = source.shape[0]
    total = np.zeros(width)
    squares = np.zeros(width)
    origin: Tensor | None = None
    count = 0
    everyone = np.arange(len(source.ids))
    if not source.in_memory and len(everyone) > DECODED:
        everyone = everyone[:: -(-len(everyone) // DECODED)]
    for start in range(0, len(everyone), block):
        rows = everyone[start : start + block]
        values = source.pixels(rows).double().flatten(2 if len(source.shape) == 3 else 1)
        values = values.transpose(0, 1).flatten(1) if len(source.shape) == 3 else values.T
        # Counted from the first value, or a large mean would swallow a small spread.
        origin = values[:, :1].clone() if origin is None else origin
        values = values - origin
        total += values.sum(1).numpy()
        squares += values.square().sum(1).numpy()
        count += values.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-8] = 1.0
    assert origin is not None, "a source has at least one row"
    mean += origin[:, 0].numpy()
    return Scale(tuple(mean.tolist()), tuple(std.tolist()))


def _size_mb(source: Source) -> float:
    return len(source.ids) * source.pixels(np.arange(1)).nbytes / 2**20


class _Rows(Dataset[Tensor]):
    """Lets workers decode; the batch sampler hands whole lists of rows."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source.ids)

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        return self.source.pixels(np.asarray(rows))


class _Planned:
    """A sampler whose lists of rows are set anew for every lap."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Feed:
    """Serves rows of a source on the training device.

    Args:
        source: Where the samples come from.
        scale: Normalisation, measured on the training rows.
        device: Where the tensors go.
        dtype: Floating type of the served tensors.
        channels_last: Memory layout of pictures.
        budget_mb: Largest size of the data that are kept on an accelerator.
        workers: Processes that decode files, for sources that are not in memory.
    """

    def __init__(
        self,
        source: Source,
        scale: Scale,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        budget_mb: int = 4096,
        workers: int = 2,
    ) -> None:
        self.source = source
        self.device = device
        self.is_picture = len(source.shape) == 3
        self.layout = (
            torch.channels_last if channels_last and self.is_picture else torch.contiguous_format
        )
        tail = (1, 1) if self.is_picture else ()
        std = torch.tensor(scale.std, dtype=torch.float64)
        mean = torch.tensor(scale.mean, dtype=torch.float64)
        self._factor = (1 / std).reshape(-1, *tail).to(device, dtype)
        self._offset = (-mean / std).reshape(-1, *tail).to(device, dtype)
        self._dtype = dtype
        self._resident: Tensor | None = None
        self._planned = _Planned()
        self._loader: DataLoader[Tensor] | None = None
        self._streaming = False
        if not source.in_memory:
            self._loader = DataLoader(
                _Rows(source),
                batch_size=None,
                sampler=self._planned,
                num_workers=workers,
                persistent_workers=workers > 0,
                # Without one of its own, every pass would draw from the global generator.
                generator=torch.Generator(),
            )
        elif device.type != "cpu" and _size_mb(source) <= budget_mb:
            self._resident = source.pixels(np.arange(len(source.ids))).to(device)

    def raw(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Serve the unchanged samples of each list of rows, in order.

        Workers serve one pass at a time; a pass that starts meanwhile is read by this process.
        """
        if self._loader is not None and not self._streaming:
            self._streaming = True
            try:
                self._planned.batches = [rows.tolist() for rows in batches]
                yield from (samples.to(self.device) for samples in self._loader)
            finally:
                self._streaming = False
        elif self._resident is not None:
            for rows in batches:
                yield self._resident[rows.to(self.device)]
        else:
            for rows in batches:
                yield self.source.pixels(rows.numpy()).to(self.device)

    def finish(self, samples: Tensor, draws: Draws | None = None) -> Tensor:
        """Augment and normalise samples [B, ...] into what a net sees."""
        if draws is not None:
            samples = apply(samples, draws)
        values = torch.addcmul(self._offset, samples.to(self._dtype), self._factor)
        return values.contiguous(memory_format=self.layout)

    def sweep(self, rows: Tensor, *, size: int = 512) -> Iterator[Tensor]:
        """Serve rows in order, in blocks, without augmentation."""
        for samples in self.raw(torch.split(rows, size)):
            yield self.finish(samples)
