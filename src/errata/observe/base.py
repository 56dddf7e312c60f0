"""Observers write what training shows of every sample; they never change training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from errata.types import Seen

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["Observer"]


class Observer:
    """Looks at steps and writes ledger columns of its own."""

    def open(self, run: TrainingRun) -> None:
        """Add ledger columns; called once, before the first stage."""

    def step(self, run: TrainingRun, seen: Mapping[int, Seen]) -> None:
        """Look at one step."""
