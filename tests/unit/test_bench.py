"""The bench runner: missing cells run once, are recorded once, and go on after a cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from errata import methods
from errata.bench import describe, read_results, run_cell, run_next, suites, table
from errata.bench.opening import open_cell
from errata.bench.runner import measure
from errata.errors import SettingsError
from errata.ledger import standard
from errata.methods import Card
from errata.parts.base import Part, Phase, Recipe
from errata.types import Run

KEYS = {
    *("suite", "cell", "recipe", "noise", "seed", "realised_noise", "rows", "epochs", "accuracy"),
    *("accuracy_noisy_val", "accuracy_clean_ceiling", "auroc", "average_precision", "rate_error"),
    *("removed", "seconds", "cost", "peak_memory_mb", "hardware", "threads", "commit", "date"),
    *("version", "clean_rows", "verified_rows", "curve_epochs", "labels", "transition_error"),
}
CHANGING = {"seconds", "cpu_seconds", "peak_memory_mb", "date", "cost", "commit"}


def lasting(result: dict) -> dict:
    """Leave out what two runs of one cell may differ in."""
    return {k: v for k, v in result.items() if k not in CHANGING}


@dataclass
class Asks(Part):
    """Looks at what a run was given, and corrects every label to its own class."""

    label: int = 0

    def setup(self, run: Run) -> None:
        assert run.trusted is not None
        assert run.verified is not None
        run.note("asked", trusted=len(run.trusted.given), verified=int((run.verified >= 0).sum()))
        run.ledger.add("asks", standard("corrected"))

    def after_epoch(self, run: Run) -> None:
        everyone = torch.arange(run.num_rows, device=run.device)
        corrected = torch.full_like(everyone, self.label)
        run.ledger.write("corrected", everyone, corrected, stamp=run.tick)
        run.memory["transition"] = torch.eye(run.classes)
        run.memory["halves"] = torch.full((2,), 0.5)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds a recipe for the time of one test."""

    def add(name: str, build: Callable[[], object], *needs: str) -> None:
        card = Card(
            name=name, summary="", source="-", year=0, cost=1.0, needs=needs, text="", build=build
        )
        monkeypatch.setitem(methods._CARDS, name, card)

    return add


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
    assert lasting(resumed) == lasting(whole)


def two_steps() -> tuple[Phase, ...]:
    return (Phase(share=0.6), Phase(share=0.4), Phase(share=0.2, reset=False, after=True))


def test_epochs_of_a_program_of_several_stages_are_counted_through(tiny, register):
    register("two-steps", two_steps)
    suite = replace(tiny, epochs=10, evaluate=4)
    result = measure(suite, suite.cell_named("two-steps/none/0"))
    assert result["stages"] == [6, 4, 2]
    assert result["epochs"] == 12
    assert result["curve_epochs"] == [4, 6, 10, 12]
    assert result["accuracy_curve"][-1] == result["accuracy"]
    assert result["accuracy_noisy_val"] in result["accuracy_curve"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_cell_that_was_cut_off_in_any_stage_goes_on(
    tiny, register, tmp_path, monkeypatch, stage: int
):
    register("two-steps", two_steps)
    suite = replace(tiny, epochs=5)
    cell = suite.cell_named("two-steps/uniform:0.4/0")
    whole = measure(suite, cell)
    monkeypatch.setattr("errata.bench.runner.CHECKPOINT_S", 0.0)
    # The clock is asked once at the end of every epoch; stages have 3, 2 and 1 of them.
    clock = iter(range(100))
    monkeypatch.setattr("errata.bench.runner.time.monotonic", lambda: next(clock))
    if stage == 2:
        # Nothing is left to save by stopping at the last epoch of all.
        assert lasting(measure(suite, cell, work=tmp_path, until=5)) == lasting(whole)
        return
    with pytest.raises(Exception, match=r"^$") as cut:
        measure(suite, cell, work=tmp_path, until=(2, 4)[stage])
    assert cut.typename == "_OutOfTime"
    assert lasting(measure(suite, cell, work=tmp_path)) == lasting(whole)


def test_a_recipe_that_is_not_there_is_skipped_with_a_line(tiny, tmp_path, monkeypatch):
    suite = replace(
        tiny,
        recipes=("unheard-of", "odd@far", "erm"),
        noises=("none",),
        variants={"odd@far": suites.Variant(recipe="odd", changes=("stage.parts.odd.far=1",))},
    )
    monkeypatch.setitem(suites._SUITES, "tiny", suite)
    lines: list[str] = []
    done = run_next("tiny", minutes=5, results=tmp_path / "r.jsonl", echo=lines.append)
    assert done == {"suite": "tiny", "finished": ["erm/none/0"], "missing": 2}
    assert any("unheard-of/none/0: skipped, recipe `unheard-of` is unknown" in e for e in lines)
    assert any("odd@far/none/0: skipped, setting of part `odd`" in line for line in lines)


def test_a_variant_is_recorded_under_its_own_name(tiny):
    variants = {
        "odd@all": suites.Variant(
            recipe="odd",
            changes=('stage.parts.odd.at="34%"', "stage.parts.odd.percentile=0"),
            epochs=4,
            dropout=0.5,
        )
    }
    suite = replace(tiny, variants=variants)
    result = measure(suite, suite.cell_named("odd@all/uniform:0.4/0"))
    assert (result["recipe"], result["epochs"]) == ("odd@all", 4)
    plain = measure(suite, suite.cell_named("odd/uniform:0.4/0"))
    assert result["removed"]["rows"] > plain["removed"]["rows"]


def test_what_a_recipe_needs_is_given_and_its_size_told(tiny, register):
    register("asks", lambda: Recipe(parts=(Asks(label=3),)), "clean", "verified")
    with pytest.raises(SettingsError, match="needs clean, which suite `tiny` does not have"):
        measure(tiny, tiny.cell_named("asks/uniform:0.4/0"))
    suite = replace(tiny, trusted=30, verified=0.25)
    cell = suite.cell_named("asks+odd/uniform:0.4/0")
    result = measure(suite, cell)
    assert (result["clean_rows"], result["verified_rows"]) == (30, 50)
    opened = open_cell(suite, cell)
    assert not set(opened.clean.ids) & set(opened.planted.source.ids)
    wrong = opened.planted.truth.clean != opened.planted.source.given
    right = opened.verified.numpy() >= 0
    assert ((opened.verified.numpy() == 0) == (wrong & right)).all()
    assert result["labels"]["before"] == pytest.approx(1 - wrong.mean())
    assert result["labels"]["last"] == pytest.approx((opened.planted.truth.clean == 3).mean())
    # The identity misplaces, row by row, what is wrong.
    off = (1 - opened.transition.diagonal()).mean()
    assert result["transition_error"] == {"estimated": pytest.approx(off), "learned": None}
    assert result["series"] == {"halves": [0.5, 0.5]}
    assert measure(suite, suite.cell_named("erm/none/0"))["clean_rows"] is None


def test_trajectories_bring_curves_and_every_detector(tiny):
    suite = replace(tiny, trajectories=True, epochs=6)
    result = measure(suite, suite.cell_named("erm/uniform:0.4/0"))
    curves = result["curves"]
    assert {key: len(curve) for key, curve in curves.items()} == dict.fromkeys(
        ("loss_right", "loss_wrong", "fit_right", "fit_wrong"), 6
    )
    assert curves["fit_right"][-1] > curves["fit_wrong"][-1]
    assert curves["loss_right"][-1] < curves["loss_wrong"][-1]
    assert result["detectors"]["accumulated_margin"] == round(result["auroc_margin"], 4)
    assert {"accumulated_loss", "disagreement", "self_confidence"} <= set(result["detectors"])


def test_a_long_tail_thins_the_training_rows_alone(tiny):
    suite = replace(tiny, long_tail=5.0)
    opened = open_cell(suite, suite.cell_named("erm/none/0"))
    sizes = torch.bincount(torch.from_numpy(opened.planted.source.given)).tolist()
    assert sizes[0] == max(sizes) >= 3.5 * min(sizes)
    assert sizes[9] == min(sizes)
    assert len(opened.tests["noisy-validation"].ids) == 50


def test_results_of_a_suite_of_the_same_protocol_are_borrowed(tiny, tmp_path, monkeypatch):
    results = tmp_path / "r.jsonl"
    run_next("tiny", minutes=5, results=results, only="erm/*")
    variants = {"odd@late": suites.Variant(recipe="odd", changes=('stage.parts.odd.at="70%"',))}
    sweep = replace(
        tiny, name="sweep", recipes=("erm", "odd@late"), variants=variants, borrows="tiny"
    )
    monkeypatch.setitem(suites._SUITES, "sweep", sweep)
    done = run_next("sweep", minutes=5, results=results)
    assert sorted(done["finished"]) == ["odd@late/none/0", "odd@late/uniform:0.4/0"]
    found = table("sweep", results)
    assert found["missing"] == []
    late = next(r for r in found["rows"] if r["recipe"] == "odd@late")
    assert late["accuracy_clean_ceiling"]["seeds"] == late["cost"]["seeds"] == 1
    assert {s["suite"]: s["missing"] for s in describe(results)}["sweep"] == 0


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
    some = table("tiny", results, noise="uniform:*")
    assert [row["noise"] for row in some["rows"]] == ["uniform:0.4"] * 2


def test_the_table_shows_corrections_matrices_and_sizes(tiny, tmp_path):
    results = tmp_path / "results.jsonl"
    line = {"suite": "tiny", "cell": "erm/none/0", "accuracy": 0.5, "clean_rows": 30}
    line |= {"labels": {"before": 0.6, "first": None, "last": 0.9}}
    line |= {"transition_error": {"estimated": 0.2, "learned": None}}
    results.write_text(json.dumps(line) + "\n")
    row = next(r for r in table("tiny", results)["rows"] if r["accuracy"])
    assert row["labels_last"]["mean"] == 0.9
    assert row["labels_first"] is None
    assert row["transition_error_estimated"]["mean"] == 0.2
    assert row["clean_rows"] == 30


def test_suites_describe_themselves():
    found = {each["suite"]: each for each in describe(Path("nowhere.jsonl"))}
    assert found["fashion-10k"]["missing"] == found["fashion-10k"]["cells"] > 36
    assert found["fashion-10k"]["done"] == 0
    assert found["fashion-10k"]["hours"] is None


@pytest.mark.parametrize("name", ["odd", "odd/none", "odd/none/x"])
def test_a_cell_needs_recipe_noise_and_seed(name):
    with pytest.raises(SettingsError, match="RECIPE/NOISE/SEED"):
        suites.suite_named("fashion-10k").cell_named(name)


def test_missing_benchmark_data_are_named(monkeypatch):
    monkeypatch.setenv("ERRATA_DATA", "nowhere-at-all")
    with pytest.raises(SettingsError, match="nowhere-at-all"):
        suites.data_folder()
