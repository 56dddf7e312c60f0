"""Tables of what was measured: mean, spread and number of seeds; what is missing is missing."""

from __future__ import annotations

import fnmatch
import statistics
from pathlib import Path
from typing import Any

from errata.bench.costs import missing_hours
from errata.bench.measuring import Result
from errata.bench.runner import RESULTS, cells_missing, read_results
from errata.bench.suites import Suite, suite_named, suite_names

__all__ = ["describe", "table"]

_COLUMNS = (
    "accuracy",
    "accuracy_noisy_val",
    "accuracy_clean_ceiling",
    "auroc",
    "auroc_margin",
    "average_precision",
    "rate_error",
    "seconds",
    "cpu_seconds",
    "cost",
    "realised_noise",
)
# Measures inside another: its name, and the names within.
_INNER = {
    "removed": ("share", "precision", "recall"),
    "labels": ("before", "first", "last"),
    "transition_error": ("estimated", "learned"),
}
_SIZES = ("clean_rows", "verified_rows")


def describe(results: Path = RESULTS) -> list[dict[str, Any]]:
    """List the suites: name, summary, cells, done and missing ones, and hours left.

    The hours are those of one core of this machine; None where nothing is known to judge by.
    """
    past = read_results(results)
    found = []
    for name in suite_names():
        suite = suite_named(name)
        cells, missing = len(suite.cells()), len(cells_missing(suite, past))
        found.append(
            {
                "suite": name,
                "summary": suite.summary,
                "cells": cells,
                "done": cells - missing,
                "missing": missing,
                "hours": missing_hours(suite, past),
            }
        )
    return found


def table(suite: str, results: Path = RESULTS, *, noise: str | None = None) -> dict[str, Any]:
    """Put a suite's results together: one row per recipe and noise.

    Each measure is ``{"mean", "spread", "seeds"}`` with the sample standard deviation as spread
    (None below two seeds), or None where nothing was measured. `clean_rows` and `verified_rows` are
    the numbers of rows that a recipe was given.

    Args:
        suite: Name of the suite.
        results: File of results.
        noise: Pattern of the noises to show, such as ``uniform:*``; None shows all.
    """
    chosen = suite_named(suite)
    newest = _newest(chosen, read_results(results))
    cells = [c for c in chosen.cells() if fnmatch.fnmatchcase(c.noise, noise or "*")]
    noises = list(dict.fromkeys(cell.noise for cell in cells))
    # The noises in their order, and the recipes in theirs within each.
    pairs = dict.fromkeys((cell.recipe, cell.noise) for cell in cells)
    rows, missing = [], []
    for recipe, kind in sorted(pairs, key=lambda pair: noises.index(pair[1])):
        names = [cell.name for cell in cells if (cell.recipe, cell.noise) == (recipe, kind)]
        found = [_compared(newest[name], newest) for name in names if name in newest]
        missing += [name for name in names if name not in newest]
        rows.append(_row(recipe, kind, found))
    return {"suite": suite, "summary": chosen.summary, "rows": rows, "missing": missing}


def _newest(suite: Suite, past: list[Result]) -> dict[str, Result]:
    """Give the last result of each cell; those of its own suite before borrowed ones."""
    lent = [r for r in past if suite.borrows and r["suite"] == suite.borrows]
    lent = [r for r in lent if r["cell"].split("/")[0] not in suite.variants]
    own = [r for r in past if r["suite"] == suite.name]
    return {r["cell"]: r for r in (*lent, *own)}


def _row(recipe: str, noise: str, found: list[Result]) -> dict[str, Any]:
    row: dict[str, Any] = {"recipe": recipe, "noise": noise, "seeds": len(found)}
    for size in _SIZES:
        row[size] = max((r[size] for r in found if r.get(size)), default=None)
    for column in _COLUMNS:
        row[column] = _summary([r.get(column) for r in found])
    for outer, parts in _INNER.items():
        for part in parts:
            values = [(r.get(outer) or {}).get(part) for r in found]
            row[f"{outer}_{part}"] = _summary(values)
    return row


def _compared(result: Result, newest: dict[str, Result]) -> Result:
    """Add what cells that may have come later tell: cost and clean ceiling."""
    noise, seed = result.get("noise"), result.get("seed")
    clean = newest.get(f"{result.get('recipe')}/none/{seed}")
    if clean is not None:
        result = {**result, "accuracy_clean_ceiling": clean["accuracy"]}
    plain = newest.get(f"erm/{noise}/{seed}", {})
    known = plain.get("cpu_seconds") and result.get("cpu_seconds")
    if not known or plain.get("hardware") != result.get("hardware"):
        return result
    return {**result, "cost": round(result["cpu_seconds"] / plain["cpu_seconds"], 3)}


def _summary(values: list[float | None]) -> dict[str, float | int | None] | None:
    known = [float(v) for v in values if v is not None]
    if not known:
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "spread": spread, "seeds": len(known)}
