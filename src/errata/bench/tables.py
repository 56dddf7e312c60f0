"""Tables of what was measured: mean, spread and number of seeds; what is missing is missing."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from errata.bench.runner import RESULTS, read_results
from errata.bench.suites import suite_named, suite_names

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
)


def describe() -> list[dict[str, Any]]:
    """List the suites: name, summary, cells."""
    return [
        {
            "suite": name,
            "summary": suite_named(name).summary,
            "cells": len(suite_named(name).cells()),
        }
        for name in suite_names()
    ]


def table(suite: str, results: Path = RESULTS) -> dict[str, Any]:
    """Put a suite's results together: one row per recipe and noise.

    Each measure is ``{"mean", "spread", "seeds"}`` with the sample standard deviation as spread
    (None below two seeds), or None where nothing was measured.
    """
    chosen = suite_named(suite)
    newest: dict[str, dict[str, Any]] = {}
    for result in read_results(results):
        if result["suite"] == suite:
            newest[result["cell"]] = result
    rows, missing = [], []
    for noise in chosen.noises:
        for recipe in chosen.recipes:
            names = [f"{recipe}/{noise}/{seed}" for seed in chosen.seeds]
            found = [_with_cost(newest[name], newest) for name in names if name in newest]
            missing += [name for name in names if name not in newest]
            row: dict[str, Any] = {"recipe": recipe, "noise": noise, "seeds": len(found)}
            for column in _COLUMNS:
                row[column] = _summary([r.get(column) for r in found])
            for part in ("share", "precision", "recall"):
                values = [(r.get("removed") or {}).get(part) for r in found]
                row[f"removed_{part}"] = _summary(values)
            row["realised_noise"] = _summary([r.get("realised_noise") for r in found])
            rows.append(row)
    return {"suite": suite, "summary": chosen.summary, "rows": rows, "missing": missing}


def _with_cost(result: dict[str, Any], newest: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare with plain training of the same noise and seed on the same hardware."""
    plain = newest.get(f"erm/{result.get('noise')}/{result.get('seed')}", {})
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
