"""The engine: it trains programs and names no method."""

from __future__ import annotations

from errata.engine.fit import Listener, default_batch, default_epochs, fit
from errata.engine.run import Engine, TrainingRun

__all__ = ["Engine", "Listener", "TrainingRun", "default_batch", "default_epochs", "fit"]
