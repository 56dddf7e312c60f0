"""Benchmark suites by name."""

from __future__ import annotations

from errata.bench.suites import fashion, joint, memorization, noise_models, odd, smp
from errata.bench.suites.base import Cell, Grid, Suite, Variant, data_folder
from errata.errors import unknown_name

__all__ = ["Cell", "Grid", "Suite", "Variant", "data_folder", "suite_named", "suite_names"]

_MODULES = (fashion, odd, smp, joint, noise_models, memorization)
_SUITES: dict[str, Suite] = {suite.name: suite for each in _MODULES for suite in each.SUITES}


def suite_names() -> tuple[str, ...]:
    """List the suites."""
    return tuple(_SUITES)


def suite_named(name: str) -> Suite:
    """Find a suite.

    Raises:
        SettingsError: No suite has this name.
    """
    if name not in _SUITES:
        raise unknown_name("suite", name, _SUITES)
    return _SUITES[name]
