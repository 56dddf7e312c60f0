"""What cards show beside their text: a picture of the steps, and their place in the map."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from errata.methods import card_named, recipe_names
from errata.methods.card import WAYS
from errata.report.pipeline_figure import pipeline_figure

MAP = Path(__file__).resolve().parents[2] / "docs" / "methods" / "index.md"


@pytest.mark.parametrize("name", ["odd", "smp", "joint", "nnaqc"])
def test_recipes_of_several_steps_show_them_as_a_picture(name: str):
    steps = card_named(name).pipeline
    assert len(steps) >= 3
    figure = ElementTree.fromstring(pipeline_figure(steps))
    assert figure.attrib["aria-label"] == ", then ".join(steps)
    words = " ".join("".join(text.itertext()) for text in figure.iter("text"))
    assert words.split() == " ".join(steps).split()
    assert len(list(figure.iter("rect"))) == len(steps)


def test_the_map_links_to_every_way_that_recipes_go():
    text = MAP.read_text("utf-8")
    # As the site makes them from headings.
    anchors = {re.sub(r"[^\w\s-]", "", each.lower()).replace(" ", "-") for each in WAYS.values()}
    assert set(re.findall(r"\(#([\w-]+)\)", text)) == anchors
    assert {card_named(name).way for name in recipe_names()} == set(WAYS)


def test_the_map_names_recipes_that_there_are():
    words = set(re.findall(r"`([\w-]+)(?::K)?`", MAP.read_text("utf-8").split("## The map")[1]))
    assert words - {"clean", "verified", "--clean", "--verified"} <= set(recipe_names())
