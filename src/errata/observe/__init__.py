"""Observers: they write what training shows of every sample."""

from __future__ import annotations

from errata.observe.base import Observer
from errata.observe.representation import Representation
from errata.observe.track import Track
from errata.observe.trajectory import Trajectory

__all__ = ["Observer", "Representation", "Track", "Trajectory"]
