"""The whole cycle on real digits: audit, review by somebody who knows the truth, apply, retrain."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def cycle() -> ModuleType:
    """Load the benchmark of the same name, which plays the cycle."""
    return importlib.import_module("cycle")


def check_review(run: dict) -> None:
    assert run["times_random"] >= 4
    left = run["errors_left"]
    assert left["low"] <= left["true"] <= left["high"]


def test_a_short_cycle_corrects_labels_and_its_queue_beats_chance(
    cycle: ModuleType, tmp_path: Path
):
    run = cycle.play(tmp_path, 0, "--limit", 500, epochs=8, trains=False)
    assert run["cards"] == 50
    labels = run["label_accuracy"]
    assert labels["given"] < labels["people"] <= labels["both"]
    check_review(run)


@pytest.mark.slow
def test_the_whole_cycle_makes_labels_and_models_better(cycle: ModuleType, tmp_path: Path):
    runs = []
    for seed in (0, 1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        runs.append(cycle.play(folder, seed))
    for run in runs:
        labels = run["label_accuracy"]
        assert labels["given"] < labels["people"] < labels["both"]
        check_review(run)
    before, after = (
        np.mean([run["test_accuracy"][name] for run in runs]) for name in ("given", "both")
    )
    assert after > before
