"""The run-time checker of tensor shapes and types; `tests/conftest.py` switches it on by name."""

from __future__ import annotations

from beartype import BeartypeConf, FrozenDict, beartype

from errata.types import Run

__all__ = ["check"]

# A run is a protocol with many members, and tests stand in for it with a few of them.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Run: object})))
