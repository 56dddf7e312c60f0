"""What the missing cells of a suite will cost, judged by those that were measured."""

from __future__ import annotations

from statistics import fmean

from errata.bench.measuring import Result
from errata.bench.runner import cells_missing
from errata.bench.suites import Cell, Suite, suite_named, suite_names
from errata.machine import processor_name
from errata.methods import card_named, recipe_names

__all__ = ["missing_hours"]

USUAL_COST = 1.5
"""Plain training passes of a recipe that nobody has measured."""


def missing_hours(suite: Suite, past: list[Result]) -> float | None:
    """Estimate the processor hours of the missing cells of a suite, on one core of this machine.

    A cell is taken to cost, per row and epoch, what its recipe did on this processor: in the same
    suite, else in another suite of the same model and data, else what plain training did times the
    cost on the card of the recipe.

    Returns:
        Hours; None where nothing was measured that could be compared.
    """
    past = [r for r in past if r.get("hardware") == processor_name() and r.get("cpu_seconds")]
    like = {s for s in suite_names() if _same_work(suite_named(s), suite)} | {suite.name}
    rows = _rows(suite, past)
    total = 0.0
    for cell in cells_missing(suite, past):
        rate = _rate(suite, cell, [r for r in past if r["suite"] in like])
        if rate is None or rows is None:
            return None
        total += rate * rows * (suite.variant(cell.recipe).epochs or suite.epochs)
    return total / 3600


def _same_work(one: Suite, other: Suite) -> bool:
    return (one.source, one.model) == (other.source, other.model)


def _rows(suite: Suite, past: list[Result]) -> int | None:
    if suite.limit is not None and suite.long_tail == 1:
        return suite.limit
    own = [r["rows"] for r in past if r["suite"] == suite.name]
    return own[-1] if own else suite.limit


def _rate(suite: Suite, cell: Cell, past: list[Result]) -> float | None:
    """Give seconds per row and epoch."""
    recipe = suite.variant(cell.recipe).recipe
    own = [r for r in past if r["suite"] == suite.name and r["recipe"] == cell.recipe]
    same = own or [r for r in past if r["recipe"] == recipe]
    if same:
        return _mean_rate(same)
    plain = [r for r in past if r["recipe"] == "erm"]
    return _mean_rate(plain) * _cost(recipe) if plain else None


def _mean_rate(results: list[Result]) -> float:
    return fmean(r["cpu_seconds"] / (r["rows"] * r["epochs"]) for r in results)


def _cost(recipe: str) -> float:
    """Give the cost of the dearest member of a recipe, in plain training passes."""
    names = [name.strip() for name in recipe.split("+")]
    known = [card_named(name).cost if name in recipe_names() else None for name in names]
    return max((USUAL_COST if cost is None else cost for cost in known), default=USUAL_COST)
