"""The picture of how prototypes were chosen: what it shows of four rows, and how large it gets."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from errata.report.density_figure import DensityPanel, density_panels, density_scatter
from errata.report.recipe import recipe_figures

NAN = float("nan")
MEMORY = {
    "smp_candidates": np.array([[4, 7, 9], [5, 6, -1], [-1, -1, -1]]),
    "smp_prototypes": np.array([[7, -1], [6, 5], [-1, -1]]),
    "smp_density": np.array([[1.0, 3.0, -3.0], [0.0, 2.0, NAN], [NAN, NAN, NAN]]),
    "smp_apart": np.array([[0.99, -0.98, -0.5], [0.5, 0.1, NAN], [NAN, NAN, NAN]]),
}


def panels() -> list[DensityPanel]:
    return density_panels(MEMORY, ["cat", "dog & fox", "owl"])


def test_panels_hold_the_candidates_of_a_class_and_which_were_chosen():
    cat, dog = panels()
    assert (cat.title, dog.title) == ("cat", "dog & fox")
    assert cat.density.tolist() == [1.0, 3.0, -3.0]
    assert cat.apart.tolist() == [0.99, -0.98, -0.5]
    assert cat.chosen.tolist() == [False, True, False]
    assert dog.chosen.tolist() == [True, True]


def figures(memory: dict[str, np.ndarray]) -> list[Any]:
    classes = ["cat", "dog", "owl"]
    return recipe_figures(SimpleNamespace(memory=memory, ledger=SimpleNamespace(classes=classes)))


def test_the_report_says_what_the_heights_are():
    (eta,) = figures(MEMORY)
    assert "likeness to a denser row" in eta.svg
    assert "near-duplicates of denser ones at the top" in eta.caption
    peaks = {name: tensor for name, tensor in MEMORY.items() if name != "smp_apart"}
    (delta,) = figures({**peaks, "smp_distance": np.abs(MEMORY["smp_apart"])})
    assert "distance to a denser row" in delta.svg
    assert "those far from denser ones at the top" in delta.caption


def test_prototypes_of_k_means_have_no_density_to_draw():
    blank = {name: np.full_like(MEMORY[name], NAN) for name in ("smp_density", "smp_apart")}
    assert figures({**MEMORY, **blank}) == []


def test_each_prototype_is_a_dot_and_the_rest_one_path():
    drawn = density_scatter(panels(), label="two classes", cap=0.95)
    root = ElementTree.fromstring(drawn)
    assert root.attrib["aria-label"] == "two classes"
    assert len(root.findall("circle")) == 3
    (path,) = root.findall("path")
    assert path.attrib["d"].count("M") == 2
    assert drawn.count("threshold") == 2
    assert "dog &amp; fox" in drawn


def test_dense_rows_lie_right_and_twins_lie_high():
    panel = DensityPanel("cat", np.array([0.0, 10.0]), np.array([0.2, 0.9]), np.array([True, True]))
    root = ElementTree.fromstring(density_scatter([panel], label="cat"))
    first, second = ((float(c.get("cx")), float(c.get("cy"))) for c in root.findall("circle"))
    assert first[0] < second[0]
    assert first[1] > second[1]


def test_all_panels_share_their_axes():
    one = DensityPanel("a", np.array([0.0]), np.array([0.0]), np.array([True]))
    two = DensityPanel("b", np.array([5.0]), np.array([1.0]), np.array([True]))
    root = ElementTree.fromstring(density_scatter([one, two], label="two", columns=1))
    a, b = root.findall("circle")
    assert float(a.get("cx")) < float(b.get("cx"))


def test_many_rows_make_a_small_picture():
    rng = np.random.default_rng(0)
    crowd = [
        DensityPanel(
            f"class {c}",
            rng.integers(-1280, 1281, 1280).astype(float),
            rng.uniform(0.9, 1.0, 1280),
            np.arange(1280) < 8,
        )
        for c in range(10)
    ]
    drawn = density_scatter(crowd, label="ten classes")
    assert len(drawn) < 200_000
    assert len(re.findall("<circle", drawn)) == 80


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_rows_that_are_all_alike_can_be_drawn(value: float):
    panel = DensityPanel("a", np.full(4, value), np.full(4, 1.0), np.zeros(4, dtype=bool))
    root = ElementTree.fromstring(density_scatter([panel], label="alike"))
    assert root.find("path").get("d").count("M") == 1
