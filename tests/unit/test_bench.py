"""The bench runner: missing cells run once, are recorded once, and go on after a cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errata.bench import describe, read_results, run_cell, run_next, suites, table
from errata.bench.runner import measure
from errata.errors import SettingsError

KEYS = {
    *("suite", "cell", "recipe", "noise", "seed", "realised_noise", "rows", "epochs", "accuracy"),
    *("accuracy_noisy_val", "accuracy_clean_ceiling", "auroc", "average_precision", "rate_error"),
    *("removed", "seconds", "cost", "peak_memory_mb", "hardware", "threads", "commit", "date"),
    "version",
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> suites.Suite:
    suite = suites.Suite(
        name="tiny",
        summary="a few digits",
        source="digits",
        limit=200,
        validation=50,
        model="mlp",
        epochs=3,
        batch=64,
        evaluate=1,
        recipes=("erm", "odd"),
        noises=("uniform:0.4", "none"),
        seeds=(0,),
    )
    monkeypatch.setitem(suites._SUITES, "tiny", suite)
    monkeypatch.setenv("ERRATA_DATA", str(tmp_path))
    return suite


def test_missing_cells_run_once_and_are_recorded_once(tiny, tmp_path):
    results = tmp_path / "results.jsonl"
    done = run_next("tiny", minutes=5, results=results)
    assert done["missing"] == 0
    assert sorted(done["finished"]) == sorted(cell.name for cell in tiny.cells())
    lines = results.read_text()
    again = run_next("tiny", minutes=5, results=results)
    assert again["finished"] == []
    assert results.read_text() == lines
    assert all(set(result) >= KEYS for result in read_results(results))


def test_only_chooses_cells_by_pattern(tiny, tmp_path):
    done = run_next("tiny", minutes=5, results=tmp_path / "r.jsonl", only="odd/*")
    assert sorted(done["finished"]) == ["odd/none/0", "odd/uniform:0.4/0"]
    assert done["missing"] == 2


def test_no_cell_starts_when_the_minutes_are_over(tiny, tmp_path):
    done = run_next("tiny", minutes=0, results=tmp_path / "r.jsonl")
    assert done == {"suite": "tiny", "finished": [], "missing": 4}


def test_a_cell_that_was_cut_off_gives_what_an_unbroken_one_gives(tiny, tmp_path, monkeypatch):
    cell = tiny.cell_named("odd/uniform:0.4/0")
    whole = measure(tiny, cell)
    work = tmp_path / "work"
    monkeypatch.setattr("errata.bench.runner.CHECKPOINT_S", 0.0)
    with pytest.raises(Exception, match=r"^$") as cut:
        measure(tiny, cell, work=work, until=0.0)
    assert cut.typename == "_OutOfTime"
    assert list(work.glob("*/state.json"))
    resumed = measure(tiny, cell, work=work)
    changing = {"seconds", "cpu_seconds", "peak_memory_mb", "date", "cost", "commit"}
    assert {k: v for k, v in resumed.items() if k not in changing} == {
        k: v for k, v in whole.items() if k not in changing
    }


def test_one_cell_is_repeated_without_touching_a_file(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_cell("tiny", "erm/uniform:0.4/1")
    assert result["seed"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_clean_cell_has_no_wrong_label_to_find(tiny):
    result = run_cell("tiny", "erm/none/0")
    assert result["realised_noise"] == 0
    assert result["auroc"] is None


def test_the_table_shows_mean_spread_and_what_is_missing(tiny, tmp_path):
    results = tmp_path / "results.jsonl"
    lines = [
        {"suite": "tiny", "cell": "erm/none/0", "accuracy": 0.5, "removed": None},
        {"suite": "other", "cell": "erm/none/0", "accuracy": 0.1},
    ]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = table("tiny", results)
    row = next(r for r in found["rows"] if (r["recipe"], r["noise"]) == ("erm", "none"))
    assert row["accuracy"] == {"mean": 0.5, "spread": None, "seeds": 1}
    assert sorted(found["missing"]) == ["erm/uniform:0.4/0", "odd/none/0", "odd/uniform:0.4/0"]


def test_suites_describe_themselves():
    assert {each["suite"] for each in describe()} >= {"fashion-10k"}


@pytest.mark.parametrize("name", ["odd", "odd/none", "odd/none/x"])
def test_a_cell_needs_recipe_noise_and_seed(name):
    with pytest.raises(SettingsError, match="RECIPE/NOISE/SEED"):
        suites.suite_named("fashion-10k").cell_named(name)


def test_missing_benchmark_data_are_named(monkeypatch):
    monkeypatch.setenv("ERRATA_DATA", "nowhere-at-all")
    with pytest.raises(SettingsError, match="nowhere-at-all"):
        suites.data_folder()
