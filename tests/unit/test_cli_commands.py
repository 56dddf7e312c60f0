"""What `show`, `report`, `recipes`, `noise` and `bench` print, on audits that are made up."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errata.directory import AuditDirectory
from errata.methods import recipe_names

from .cli_runner import run_cli
from .fake_audit import make_audit


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of 60 rows in three classes."""
    return make_audit(tmp_path_factory.mktemp("audit"), rows=60, classes=3, wrong=0.2)


def rows_of(text: str) -> list[str]:
    """Give the lines of a table below its titles."""
    return text.partition("\n\n")[0].splitlines()[1:]


def test_show_lists_the_worst_ten_first(audit: Path):
    done = run_cli("show", audit)
    worst = AuditDirectory.open(audit).worst(10)
    assert done.code == 0
    assert [line.split()[0] for line in rows_of(done.out)] == [record.id for record in worst]
    assert done.err == ""


def test_show_json_holds_the_records_and_nothing_else(audit: Path):
    done = run_cli("show", audit, "--limit", 3, "--json")
    worst = AuditDirectory.open(audit).worst(3)
    assert done.json == {"command": "show", "records": [record.as_json() for record in worst]}
    assert done.out.count("\n") == 1


def test_show_filters_by_label_and_tier(audit: Path):
    found = AuditDirectory.open(audit)
    name = found.ledger.classes[1]
    records = run_cli("show", audit, "--given", name, "--limit", 60, "--json").json["records"]
    assert records
    assert {record["given"] for record in records} == {name}
    records = run_cli("show", audit, "--tier", "fine", "--limit", 60, "--json").json["records"]
    assert {record["tier"] for record in records} == {"fine"}


def test_show_of_an_id_prints_every_reason(audit: Path):
    record = AuditDirectory.open(audit).worst(1)[0]
    done = run_cli("show", audit, record.id)
    assert record.reasons
    assert done.out.startswith(f"id          {record.id}\n")
    for reason in record.reasons:
        assert f"  {reason.kind}: {reason.text}\n" in done.out


def test_show_suggests_ids_and_classes(audit: Path):
    record = AuditDirectory.open(audit).worst(1)[0]
    done = run_cli("show", audit, record.id[1:])
    assert done.code == 2
    assert "did you mean" in done.err
    done = run_cli("show", audit, "--given", AuditDirectory.open(audit).ledger.classes[0] + "s")
    assert done.code == 2
    assert "did you mean" in done.err


def test_show_refuses_filters_beside_an_id(audit: Path):
    done = run_cli("show", audit, "x", "--tier", "fine")
    assert done.code == 2
    assert "--tier has no meaning beside an id" in done.err


def test_names_with_markup_are_shown_as_they_are(tmp_path: Path):
    ids = ["[bold]a[/bold].png", "<script>.png", "a, b.png", 'q".png', ":smile:.png"] * 2
    ids = [f"{row}{name}" for row, name in enumerate(ids)]
    made = make_audit(tmp_path, rows=10, classes=2, ids=ids, names=("[red]", "a,b"))
    text = run_cli("show", made).out
    for each in (*ids, "[red]"):
        assert each in text


def test_flags_without_effect_are_warned_of_once(audit: Path):
    done = run_cli("show", audit, "--device", "cpu", "--seed", 3)
    assert done.code == 0
    assert done.err.splitlines() == [
        "warning: --device has no effect on this command",
        "warning: --seed has no effect on this command",
    ]


def test_report_writes_the_page_again(audit: Path):
    page = audit / "report.html"
    page.unlink(missing_ok=True)
    done = run_cli("report", audit, "--json")
    assert done.json == {"command": "report", "out": str(page)}
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_recipes_lists_every_recipe_and_tells_the_default():
    from errata.config import DEFAULT_RECIPE

    done = run_cli("recipes")
    names = [line.split()[0] for line in rows_of(done.out)]
    assert names[: len(recipe_names())] == list(recipe_names())
    assert f"default: {DEFAULT_RECIPE};" in done.out


def test_recipes_json_has_the_keys_of_the_contract():
    found = run_cli("recipes", "--json").json["recipes"]
    assert [each["name"] for each in found] == list(recipe_names())
    for each in found:
        assert set(each) == {"name", "summary", "source", "year", "cost", "needs", "parts"}


def test_recipes_filters_by_need():
    found = run_cli("recipes", "--needs", "nothing", "--json").json["recipes"]
    assert found
    assert all(each["needs"] == [] for each in found)
    assert all(
        "clean" in each["needs"]
        for each in run_cli("recipes", "--needs", "clean", "--json").json["recipes"]
    )


def test_recipes_shows_the_whole_card_of_each_named():
    text = run_cli("recipes", "odd+mixup").out
    assert text.index("odd: ") < text.index("**Idea.**") < text.index("mixup: ")


def test_noise_keeps_labels_and_truth_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    found = run_cli("noise", "digits", "--noise", "uniform-other:0.2", "--limit", 100, "--json")
    document = found.json
    matrix = np.array(document["matrix"])
    assert (document["rows"], document["classes"]) == (100, 10)
    assert (document["out"], document["truth"]) == ("noisy.csv", "noisy-truth.npz")
    assert matrix.sum() == 100
    assert document["rate"] == pytest.approx(1 - np.trace(matrix) / 100)
    with Path("noisy.csv").open(newline="") as file:
        given = {line["id"]: line["label"] for line in csv.DictReader(file)}
    truth = np.load("noisy-truth.npz", allow_pickle=False)
    wrong = [given[key] != name for key, name in zip(truth["ids"], truth["clean"], strict=True)]
    assert np.mean(wrong) == pytest.approx(document["rate"]) == pytest.approx(0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noisy-truth.npz", "noisy.csv"]


def test_noise_depends_on_the_seed(tmp_path: Path):
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.csv"
        run_cli("noise", "digits", "--noise", "uniform:0.2", "--out", out, "--seed", seed)
        texts.append(out.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_noise_words_say_the_realised_rate(tmp_path: Path):
    done = run_cli("noise", "digits", "--noise", "uniform:0.2", "--out", tmp_path / "n.csv")
    assert "% are wrong" in done.out.splitlines()[0]
    assert done.out.splitlines()[2] == f"truth, for evaluation alone: {tmp_path / 'n-truth.npz'}"


def result(recipe: str, seed: int, accuracy: float) -> Mapping[str, Any]:
    """Make up one line of a results file."""
    cell = f"{recipe}/uniform:0.4/{seed}"
    return {"suite": "fashion-10k", "cell": cell, "accuracy": accuracy, "seed": seed}


def test_bench_table_shows_mean_spread_and_what_is_missing(tmp_path: Path):
    results = tmp_path / "results.jsonl"
    lines = [result("erm", seed, 0.8 + 0.01 * seed) for seed in range(3)]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_cli("bench", "table", "fashion-10k", "--results", results)
    rows = {tuple(line.split()[:2]): line for line in done.out.splitlines() if "uniform" in line}
    assert "81.0 +- 1.0" in rows["erm", "uniform:0.4"]
    assert "missing" in rows["odd", "uniform:0.4"]
    document = run_cli("bench", "table", "fashion-10k", "--results", results, "--json").json
    assert document["rows"][0]["accuracy"]["mean"] == pytest.approx(0.81)
    assert "odd/uniform:0.4/0" in document["missing"]
    some = run_cli(
        *("bench", "table", "fashion-10k", "--results", results),
        *("--noise", "uniform:*", "--markdown"),
    ).out.splitlines()
    assert some[:3:2] == [
        "| recipe | noise | seeds | accuracy % |",
        "| erm | uniform:0.4 | 3 | 81.0 +- 1.0 |",
    ]
    assert all("| uniform:0.4 |" in line for line in some[2:])


def test_bench_list_names_every_suite():
    from errata.bench import suite_names

    assert [s["suite"] for s in run_cli("bench", "list", "--json").json["suites"]] == [
        *suite_names()
    ]
    assert all(name in run_cli("bench", "list").out for name in suite_names())


def test_bench_next_passes_its_flags_on_and_tells_of_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}

    def run_next(suite: str, **flags: Any) -> dict[str, Any]:
        flags.pop("echo")(f"{suite} odd/none/0 ...")
        asked.update(flags)
        return {"suite": suite, "finished": ["odd/none/0"], "missing": 2}

    monkeypatch.setattr("errata.bench.run_next", run_next)
    results = tmp_path / "r.jsonl"
    argv = ["bench", "next", "fashion-10k", "--minutes", 0.5, "--only", "odd/*"]
    done = run_cli(*argv, "--results", results, "--device", "cpu")
    assert asked == {"minutes": 0.5, "only": "odd/*", "results": results, "device": "cpu"}
    assert done.err == "fashion-10k odd/none/0 ...\n"
    assert done.out == "fashion-10k: 1 cell finished, 2 missing\n"
    assert run_cli(*argv, "--json").json["finished"] == ["odd/none/0"]


def test_bench_run_prints_the_object_of_the_results_file(monkeypatch: pytest.MonkeyPatch):
    made = {"suite": "s", "cell": "odd/none/0", "accuracy": 0.5, "auroc": None}
    monkeypatch.setattr("errata.bench.run_cell", lambda suite, cell, *, device: made)
    for more in ((), ("--json",)):
        assert run_cli("bench", "run", "s", "odd/none/0", *more).json == made
