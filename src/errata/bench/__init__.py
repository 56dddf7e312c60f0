"""Benchmarks: suites of cells in code, results as JSON lines."""

from __future__ import annotations

from errata.bench.runner import RESULTS, read_results, run_cell, run_next
from errata.bench.suites import suite_names
from errata.bench.tables import describe, table

__all__ = ["RESULTS", "describe", "read_results", "run_cell", "run_next", "suite_names", "table"]
