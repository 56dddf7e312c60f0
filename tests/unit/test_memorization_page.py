"""What the page on learning by heart says of results, and of results that are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import memorization_figure
import pytest
from memorization_answers import BRAKES, LOSSES, NOT_YET, answers, learned
from memorization_figure import FIRST, LAST, cells_of, panels_of, table_of

from errata.bench.suites import suite_named

LONG = {
    "plain/uniform:1": {"fit_wrong": 0.99, "test_accuracy": 0.1},
    "all/uniform:1": {"fit_wrong": 0.5, "test_accuracy": 0.1},
    "plain/uniform:0.4": {"fit_wrong": 0.97, "test_accuracy": 0.593},
}


def result(cell: str, **values: Any) -> dict[str, Any]:
    curves = {
        "fit_wrong": [0.04, 0.12, 0.06, 0.10, 0.25],
        "fit_right": [0.5, 0.79, 0.81, 0.9, 0.953],
    }
    made = {"suite": "memorization", "cell": cell, "curves": curves, "accuracy": 0.7689}
    made |= {"accuracy_curve": [0.6, 0.7689], "curve_epochs": [2, 5], "realised_noise": 0.36}
    return made | values


def found(*names: str, **values: Any) -> dict[str, Any]:
    return {name: result(name, **values) for name in names}


def none_measured() -> dict[str, Any]:
    return {noise: {} for noise in memorization_figure.NOISES}


def test_the_questions_name_the_noises_and_the_cells_of_the_suite():
    suite = suite_named("memorization")
    assert set(suite.noises) == set(memorization_figure.NOISES)
    cells = {f"{loss}@{brake}" for loss in LOSSES for brake in BRAKES}
    assert cells == set(suite.recipes)


def test_without_results_every_answer_says_so():
    (text,) = answers(none_measured(), {})
    lines = text.splitlines()
    assert len(lines) == 7
    assert all(NOT_YET in line.lower() or "\u2013" in line for line in lines)
    assert not any(f"{number} %" in text for number in range(1, 80))


def test_numbers_are_those_of_the_last_epoch():
    cells = cells_of(found("ce@plain/uniform:0.4/0"), "uniform:0.4")
    assert learned(cells["ce", "plain"]) == (0.25, 0.953, 0.7689)
    assert "| none | 25.0 / 95.3 / 76.9 | \u2013 / \u2013 / \u2013 | " in table_of(cells)
    assert table_of(cells).count("\n") == len(BRAKES) + 1


def test_wrong_labels_that_are_none_are_no_share():
    cell = result("ce@plain/none/0", curves={"fit_wrong": None, "fit_right": [0.9]})
    assert learned(cell) == (None, 0.9, 0.7689)
    assert learned(None) == (None, None, None)


def test_an_epoch_counts_from_where_a_share_stays_above_the_level():
    by_noise = none_measured()
    by_noise["uniform:0.4"] = cells_of(found("ce@plain/uniform:0.4/0"), "uniform:0.4")
    (text,) = answers(by_noise, LONG)
    # Wrong ones pass 10 % in epoch 2 as well, but fall below it again.
    assert (
        "`uniform:0.4`: right labels pass 80 % in epoch 3, when 6.0 % of the wrong ones are "
        "predicted; these pass 10 % in epoch 4." in text
    )
    assert "no brake 99.0 %, all three 50.0 %." in text
    assert "when 97.0 % of the wrong labels are learned: 59.3 %." in text


def test_the_best_brake_is_named_only_where_all_are_measured():
    names = [f"ce@{brake}/uniform:0.4/0" for brake in BRAKES]
    by_noise = none_measured()
    by_noise["uniform:0.4"] = cells_of(found(*names[:-1]), "uniform:0.4")
    by_noise["uniform:0.4"]["ce", "augment"] = result("", accuracy=0.8284)
    (text,) = answers(by_noise, {})
    assert "`uniform:0.4`: the best single one is augmentation (+5.9 points)." in text
    del by_noise["uniform:0.4"]["ce", "decay"]
    (text,) = answers(by_noise, {})
    assert (
        f"strongest brake?** `none`: {NOT_YET}. `uniform:0.2`: {NOT_YET}. `uniform:0.4`: " in text
    )
    assert "the best single one" not in text


def test_every_loss_has_a_column_of_panels():
    names = [f"{loss}@plain/uniform:0.4/0" for loss in ("ce", "gce")]
    panels = panels_of(cells_of(found(*names), "uniform:0.4"))
    assert [panel.title for panel in panels] == [
        f"{title}: {words}"
        for words in ("wrong labels learned", "right labels learned", "test accuracy")
        for title in ("CE", "GCE")
    ]
    assert {panel.high for panel in panels[:2]} == {0.3}


def test_the_page_is_rewritten_between_its_marks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    line = json.dumps(result("ce@plain/uniform:0.4/0"))
    results.write_text(line + "\n" + json.dumps({"suite": "other", "cell": "x"}) + "\n")
    page.write_text(f"above\n\n{FIRST}\nold\n{LAST}\n\nbelow\n")
    argv = ["", "--results", str(results), "--page", str(page), "--img", str(tmp_path)]
    monkeypatch.setattr("sys.argv", argv)
    memorization_figure.main()
    once = page.read_text("utf-8")
    assert once.startswith(f"above\n\n{FIRST}\n\n1 of 60 cells are measured")
    assert once.endswith(f"{LAST}\n\nbelow\n")
    assert "old" not in once
    assert (tmp_path / "memorization-40.svg").exists()
    assert once.count("Not measured yet.\n") == 3
    memorization_figure.main()
    assert page.read_text("utf-8") == once
