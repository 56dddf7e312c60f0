from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.report.histogram_figure import (
    LossGroup,
    LossPanel,
    count_losses,
    log_edges,
    loss_panels,
    standalone,
)

EDGES = log_edges(0.01, 10.0, bins=6)


def panel(title: str = "40 %", mark: tuple[float, str] | None = None) -> LossPanel:
    groups = [
        LossGroup("right labels", "right", np.array([4, 3, 2, 1, 0, 0])),
        LossGroup("wrong labels", "wrong", np.array([0, 0, 0, 0, 5, 5])),
    ]
    return LossPanel(title, groups, mark)


def test_edges_are_equally_wide_on_a_log_axis():
    assert log_edges(0.01, 100, bins=4) == pytest.approx([0.01, 0.1, 1, 10, 100])


@given(st.lists(st.floats(0, 1e4), max_size=40))
def test_every_finite_loss_is_counted_once(losses: list[float]):
    counts = count_losses(np.array([*losses, np.nan, np.inf]), EDGES)
    assert counts.sum() == len(losses)
    assert counts[0] == sum(loss < EDGES[1] for loss in losses)
    assert counts[-1] == sum(loss >= EDGES[-2] for loss in losses)


def heights(path: str) -> list[float]:
    return [float(y) for y in re.findall(r"V([\d.]+)", path)]


def test_groups_are_drawn_to_one_scale_by_their_shares():
    drawn = re.findall(
        r'class="group \w+" d="(M[^"]*Z?)"', loss_panels(EDGES, [panel()], label="x")
    )
    right, wrong = (heights(path) for path in drawn[-2:])
    base = right[-1]
    # The highest bin holds half of the wrong labels, that of the right ones 40 %.
    tops = [base - min(right[:-1]), base - min(wrong[:-1])]
    assert tops[0] / tops[1] == pytest.approx(0.4 / 0.5, abs=0.01)
    assert [base - y for y in wrong[:4]] == [0, 0, 0, 0]
    assert wrong[4] == wrong[5]


def test_the_legend_names_each_group_once_and_panels_stand_in_rows():
    figure = loss_panels(EDGES, [panel("a"), panel("b"), panel("c")], label="x")
    assert figure.count(">right labels<") == figure.count(">wrong labels<") == 1
    places = re.findall(r'class="title" x="([\d.]+)" y="([\d.]+)"', figure)
    (x1, y1), (x2, y2), (x3, y3) = ((float(x), float(y)) for x, y in places)
    assert y1 == y2 < y3
    assert x1 == x3 < x2


def test_a_mark_stands_where_its_loss_is():
    figure = loss_panels(EDGES, [panel(mark=(1.0, "dropped above 1.00"))], label="x")
    mark = re.search(r'class="threshold" x1="([\d.]+)"', figure)
    tick = re.search(r'x="([\d.]+)" y="[\d.]+">1<', figure)
    assert mark
    assert tick
    assert mark[1] == tick[1]
    assert "dropped above 1.00" in figure
    assert "threshold" not in loss_panels(EDGES, [panel()], label="x")


def test_a_group_without_losses_is_a_flat_line():
    empty = LossPanel("none", [LossGroup("wrong labels", "wrong", np.zeros(6, dtype=int))])
    assert "nan" not in loss_panels(EDGES, [empty], label="x")


def test_a_standalone_figure_is_a_file_of_its_own():
    figure = standalone(loss_panels(EDGES, [panel("p < q & r")], label="x"), style=".c1 { }")
    root = ElementTree.fromstring(figure)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    style = root.find("{http://www.w3.org/2000/svg}style")
    assert style is not None
    assert ".group.wrong" in str(style.text)
    assert str(style.text).endswith(".c1 { }")
    assert "http" not in figure.replace("http://www.w3.org/2000/svg", "")
