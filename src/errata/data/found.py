"""What the readers of all kinds of sources have in common: rows and labels first, pixels later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from errata.types import Source

__all__ = ["Fit", "Found", "Progress", "Taken", "Unreadable"]

Progress = Callable[[int, int], None]
"""Told the number of files done and the number in all."""


@dataclass(frozen=True)
class Unreadable:
    """An image file that could not be decoded, and why."""

    id: str
    path: str
    """Where the file lies, with bytes that do not belong in text percent-encoded."""
    why: str


class Fit(NamedTuple):
    """The shape that pictures are brought to; None leaves it to the source."""

    size: tuple[int, int] | None = None
    """Height and width in pixels."""
    channels: int | None = None
    """1 (grey) or 3 (colour)."""


class Taken(NamedTuple):
    """A source made of chosen rows, less those that could not be read."""

    source: Source
    kept: np.ndarray
    """[n] positions among the chosen rows that made it into the source."""
    unreadable: tuple[Unreadable, ...]


class Found(ABC):
    """What a reader knows before a picture is decoded: the rows and their labels.

    Labels and limits apply here, so that only the rows that are wanted cost time and memory.
    """

    def __init__(
        self,
        *,
        name: str,
        ids: Sequence[str],
        given: np.ndarray,
        classes: Sequence[str],
        is_ordered: bool,
        truth: np.ndarray | None = None,
        tests: Mapping[str, Found] | None = None,
        skipped: int = 0,
    ) -> None:
        self.name = name
        self.ids = ids
        self.given = given
        self.classes = tuple(classes)
        self.is_ordered = is_ordered
        self.truth = truth
        self.tests = tests or {}
        self.skipped = skipped

    @abstractmethod
    def take(
        self, rows: np.ndarray, *, given: np.ndarray, fit: Fit, progress: Progress | None = None
    ) -> Taken:
        """Make a source of these rows with these given labels."""
