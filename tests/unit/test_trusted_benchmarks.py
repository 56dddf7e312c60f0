"""How the benchmarks of trusted rows choose rows, count cells and choose a rate; none trains."""

from __future__ import annotations

from typing import Any

import finetune_rates
import numpy as np
import trusted_rows

WRONG = np.arange(100) % 4 == 0


def cell(**accuracies: float) -> dict[str, Any]:
    return {name: {"accuracy": value, "sd": 0.02} for name, value in accuracies.items()}


def test_verdicts_are_on_a_share_of_the_rows_and_true():
    verdicts = trusted_rows.judged_rows(WRONG, 0.25, seed=3)
    judged = verdicts >= 0
    assert judged.sum() == 25
    assert ((verdicts == 0) == WRONG)[judged].all()
    assert (verdicts != trusted_rows.judged_rows(WRONG, 0.25, seed=4)).any()


def test_runs_without_verdicts_are_made_once_for_all_shares():
    keys = trusted_rows.keys()
    plain, judged = len(trusted_rows.PLAIN), len(trusted_rows.JUDGED)
    assert len(keys) == 2 * 3 * (plain + 3 * judged)
    assert keys["uniform:0.4/erm/0"] == ("uniform:0.4", None, "erm", 0)
    assert keys["asymmetric:0.3/0.05/smp+verified/2"] == ("asymmetric:0.3", 0.05, "smp+verified", 2)


def test_a_bar_counts_cells_and_asks_for_more_than_the_spread_where_it_says_so():
    cells = {"a": cell(l2rw=0.91, erm=0.90), "b": cell(l2rw=0.95, erm=0.90)}
    assert trusted_rows.met(cells, "l2rw", "erm") == {"cells": 2, "of": 2, "met": True}
    beyond = trusted_rows.met(cells, "l2rw", "erm", beyond_spread=True)
    assert beyond == {"cells": 1, "of": 2, "met": False}
    assert trusted_rows.met({**cells, "c": cell(erm=0.9)}, "l2rw", "erm") is None


def test_cost_and_spread_are_taken_seed_by_seed():
    runs = [{"accuracy": a, "cpu_seconds": s} for a, s in ((0.8, 4.0), (0.9, 9.0))]
    erm = [{"accuracy": 0.7, "cpu_seconds": s} for s in (2.0, 3.0)]
    assert trusted_rows.over_seeds(runs, erm) == {"accuracy": 0.85, "sd": 0.0707, "cost": 2.5}


def gains(digits: dict[str, float], fashion: dict[str, float]) -> dict[str, Any]:
    every = dict.fromkeys(finetune_rates.ways(), -1.0) | digits
    names = [name for name in finetune_rates.CELLS if name != finetune_rates.FASHION]
    return {name: {"gains": every} for name in names} | {finetune_rates.FASHION: {"gains": fashion}}


def test_the_way_that_gains_most_on_digits_is_chosen_among_those_that_lose_nothing():
    best, second, third = "0.03 constant 0.3", "0.01 cosine 0.3", "0.001 cosine 0.1"
    digits = {best: 0.3, second: 0.2, third: 0.1}
    tried = gains(digits, {best: -0.01})
    assert finetune_rates.ways_missing(finetune_rates.FASHION, tried)[:2] == [second, third]
    assert finetune_rates.chosen(tried) is None
    tried = gains(digits, {best: -0.01, second: 0.0})
    assert finetune_rates.ways_missing(finetune_rates.FASHION, tried) == []
    assert finetune_rates.chosen(tried) == second


def test_where_every_way_loses_the_one_that_loses_least_is_chosen():
    fashion = dict.fromkeys(finetune_rates.ways(), -0.02) | {"0.001 cosine 0.1": -0.001}
    assert finetune_rates.chosen(gains({}, fashion)) == "0.001 cosine 0.1"
