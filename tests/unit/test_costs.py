"""What recipes cost: read from a file that a tool makes of the committed results."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

from errata.methods import card_named, recipe_names


def load_tool() -> ModuleType:
    place = Path(__file__).parents[2] / "tools" / "update_costs.py"
    spec = importlib.util.spec_from_file_location("update_costs", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_costs_on_the_cards_are_those_of_the_file():
    costs = tomllib.loads(load_tool().COSTS.read_text("utf-8"))
    assert costs["erm"] == 1.0
    assert set(costs) <= set(recipe_names())
    assert {name: card_named(name).cost for name in costs} == costs


def test_a_cost_is_the_median_over_noises_to_a_twentieth():
    def line(suite: str, recipe: str, cost: float | None) -> str:
        return json.dumps({"suite": suite, "recipe": recipe, "cost": cost})

    text = load_tool().costs_text(
        [
            *(line("fashion-10k-30", "odd", cost) for cost in (0.8, 0.83, 2.0, None)),
            line("fashion-10k-30", "odd+mixup", 0.9),
            line("digits", "odd", 7.0),
        ]
    )
    assert tomllib.loads(text) == {"odd": 0.85}
