"""Whole runs through the command line on real, small images: audit, train, predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from .cli_runner import Done, run_cli

QUICK = ("--limit", 200, "--epochs", 2, "--model", "conv", "--threads", 1, "--recipe", "erm")
NOISE = ("--noise", "uniform:0.2")
# The keys of the contract; more may come, none may go.
KEYS = {
    *("command", "version", "rows", "classes", "recipe", "model", "epochs", "seed", "device"),
    *("seconds", "images_per_second", "peak_memory_mb", "test"),
}
AUDIT_KEYS = KEYS | {
    *("suspects", "noise_rate", "removed", "tiers", "planted", "out", "report", "issues")
}
TEST_KEYS = {
    *("rows", "accuracy", "top5", "balanced_accuracy", "per_class_recall", "nll", "brier", "ece"),
    *("aurc", "coverage_90", "set_size_90"),
}
PLANTED_KEYS = {
    *("rate", "auroc", "average_precision", "precision", "recall", "f1", "oracle_f1"),
    *("fnr_at_true_rate", "rate_error", "relabel_accuracy"),
    *("label_accuracy_before", "label_accuracy_after"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def audited(home: Path) -> Done:
    return run_cli("audit", "digits", *QUICK, *NOISE, "--out", home / "audit")


@pytest.fixture(scope="module")
def trained(home: Path) -> Done:
    return run_cli("train", "digits", *QUICK, "--out", home / "model", "--json")


def pictures(folder: Path, classes: list[str] | None = None, *, rows: int = 30) -> None:
    """Write digits as picture files: all in one folder, or in class folders of these names."""
    digits = load_digits()
    for row in range(rows):
        place = folder / classes[digits.target[row]] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15).astype(np.uint8)).save(place / f"{row}.png")


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_audit_says_what_was_found_and_what_comes_next(audited: Done, home: Path):
    assert audited.code == 0, audited.err
    first, planted, test, report, after = audited.out.splitlines()
    assert first.startswith("audited 200 rows in ")
    assert "% wrong, 95 % interval " in first
    assert planted.startswith("against the planted truth: precision 0.")
    assert test.startswith("test: accuracy 0.")
    assert report == f"report: {home / 'audit' / 'report.html'}"
    assert after == f"next: errata show {home / 'audit'}"


def test_audit_tells_the_time_it_takes_before_it_trains(audited: Done):
    lines = audited.err.splitlines()
    assert lines.index("reading samples") < lines.index("training")
    estimate = lines[lines.index("training") + 1]
    assert estimate.startswith("that takes about ")


def test_a_finished_audit_reports_the_object_it_wrote(audited: Done, home: Path):
    done = run_cli("audit", "digits", *QUICK, *NOISE, "--out", home / "audit", "--resume", "--json")
    assert done.code == 0, done.err
    assert "was finished already; nothing was done" in done.err
    assert done.out.count("\n") == 1
    assert done.json == json.loads((home / "audit" / "summary.json").read_text("utf-8"))
    assert set(done.json) >= AUDIT_KEYS
    assert set(done.json["noise_rate"]) == {"estimate", "low", "high", "method"}
    assert set(done.json["tiers"]) == {"obvious", "possible", "fine"}
    assert set(done.json["test"]) >= TEST_KEYS
    assert set(done.json["planted"]) >= PLANTED_KEYS
    assert done.json["epochs"] == 2


@pytest.mark.usefixtures("audited")
def test_a_second_audit_in_one_place_is_refused(home: Path):
    done = run_cli("audit", "digits", *QUICK, *NOISE, "--out", home / "audit")
    assert done.code == 2
    assert "already holds a finished audit" in done.err
    assert "--overwrite" in done.err


@pytest.mark.usefixtures("audited")
def test_a_place_that_holds_an_audit_of_other_data_is_refused(home: Path):
    before = (home / "audit" / "summary.json").read_bytes()
    for more in ((), ("--overwrite",), ("--resume",)):
        done = run_cli("audit", "digits", "--limit", 150, "--out", home / "audit", *more)
        assert done.code == 2
        assert "belongs to other data" in done.err
    assert (home / "audit" / "summary.json").read_bytes() == before


def test_flags_reach_the_settings_and_set_wins(home: Path):
    place = home / "set"
    done = run_cli(
        *("audit", "digits", *QUICK, "--out", place, "--seed", 5, "--flag", "top:7"),
        *("--augment", "crop:1", "--precision", "float32", "--device", "cpu"),
        *("--set", "stage.optimizer.lr=0.05", "--set", "source.limit=120"),
        *("--test", "again=digits", "--quiet", "--json"),
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert (done.json["suspects"], done.json["rows"], done.json["seed"]) == (7, 120, 5)
    assert set(done.json["test"]) == {"test", "again"}
    text = (place / "settings.toml").read_text()
    for line in ("lr = 0.05", 'augment = "crop:1"', 'precision = "float32"', 'device = "cpu"'):
        assert line in text


def test_a_warning_of_the_run_is_told_once(home: Path):
    # Two epochs leave no epoch in which `odd` could drop rows.
    argv = [*QUICK]
    argv[argv.index("erm")] = "odd"
    done = run_cli("train", "digits", *argv, "--out", home / "warned", "--json")
    assert done.code == 0, done.err
    (warning,) = done.json["warnings"]
    assert done.err.count(warning) == 1
    assert f"warning: {warning}\n" in done.err


def test_train_saves_a_model_and_its_accuracy(trained: Done, home: Path):
    assert trained.code == 0, trained.err
    assert set(trained.json) >= KEYS
    assert trained.json["command"] == "train"
    assert trained.json["test"]["accuracy"] > 0.5
    assert (home / "model" / "model.safetensors").exists()
    again = run_cli("train", "digits", *QUICK, "--out", home / "model", "--resume")
    assert again.out.splitlines()[1].startswith("test: accuracy 0.")
    assert again.out.splitlines()[2] == f"model: {home / 'model'}"


@pytest.mark.usefixtures("trained")
def test_predict_writes_names_and_confidences(home: Path):
    out = home / "deep" / "predictions.csv"
    done = run_cli("predict", home / "model", "digits", "--split", "test", "--out", out, "--json")
    assert done.code == 0, done.err
    lines = lines_of(out)
    assert list(lines[0]) == ["id", "label", "confidence", "second", "second_confidence"]
    assert len(lines) == done.json["rows"] == 359
    assert all(0 <= float(r["second_confidence"]) <= float(r["confidence"]) <= 1 for r in lines)
    assert all(line["label"] != line["second"] for line in lines)
    mean = np.mean([float(line["confidence"]) for line in lines])
    assert done.json["mean_confidence"] == pytest.approx(mean, abs=1e-6)
    assert [path.name for path in out.parent.iterdir()] == ["predictions.csv"]


def test_predict_measures_as_train_did(trained: Done, home: Path):
    out = home / "test.csv"
    done = run_cli("predict", home / "model", "digits", "--split", "test", "--out", out, "--json")
    assert done.json["test"]["accuracy"] == pytest.approx(trained.json["test"]["accuracy"])


@pytest.mark.usefixtures("trained")
def test_predict_takes_the_main_part_and_warns_of_training_rows(home: Path):
    done = run_cli("predict", home / "model", "digits", "--out", home / "main.csv", "--limit", 50)
    assert done.code == 0, done.err
    assert done.out.startswith("predicted 50 rows in ")
    assert "the model was trained on `digits`" in done.err


@pytest.mark.usefixtures("trained")
def test_predict_refuses_an_unknown_split(home: Path):
    done = run_cli("predict", home / "model", "digits", "--split", "tset")
    assert done.code == 2
    assert "did you mean `test`?" in done.err


@pytest.mark.usefixtures("audited")
def test_predict_takes_the_model_of_an_audit(home: Path, tmp_path: Path):
    pictures(tmp_path / "classes", [str(digit) for digit in range(10)])
    out = tmp_path / "p.csv"
    done = run_cli("predict", home / "audit", tmp_path / "classes", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["test"]["rows"] == 30
    assert {line["id"].split("/")[0] for line in lines_of(out)} <= {str(d) for d in range(10)}


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("kind", ["flat", "other classes", "one class"])
def test_predict_needs_no_labels(home: Path, tmp_path: Path, kind: str):
    names = {"flat": None, "other classes": [f"c{i}" for i in range(10)], "one class": ["x"] * 10}
    pictures(tmp_path / "in", names[kind])
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "p.csv"
    done = run_cli("predict", home / "model", tmp_path / "in", "--out", out, "--json")
    assert done.code == 0, done.err
    assert (done.json["test"], done.json["unreadable"]) == (None, 1)
    assert "broken.png` cannot be read and is left out" in done.err
    ids = {line["id"] for line in lines_of(out)}
    assert len(ids) == 30
    assert all((tmp_path / "in" / key).exists() for key in ids)


@pytest.mark.usefixtures("trained")
def test_predict_keeps_the_ids_of_a_table_without_labels(home: Path, tmp_path: Path):
    pictures(tmp_path / "in", rows=3)
    table = tmp_path / "list.csv"
    table.write_text('id,image\nc,2.png\na,0.png\n"b, ""1""",1.png\n')
    out = tmp_path / "p.csv"
    done = run_cli("predict", home / "model", table, "--images", tmp_path / "in", "--out", out)
    assert done.code == 0, done.err
    assert [line["id"] for line in lines_of(out)] == ["c", "a", 'b, "1"']


@pytest.mark.usefixtures("trained")
def test_predict_says_so_where_all_labels_are_one_unknown_class(home: Path, tmp_path: Path):
    digits = load_digits()
    source = tmp_path / "one.npz"
    np.savez(source, x=(digits.images[:9] * 15).astype(np.uint8), y=np.full(9, 33))
    done = run_cli("predict", home / "model", source, "--out", tmp_path / "p.csv")
    assert done.code == 2
    assert "all are of one class" in done.err
    assert "write -1" in done.err
    np.savez(source, x=(digits.images[:9] * 15).astype(np.uint8), y=np.full(9, -1))
    done = run_cli("predict", home / "model", source, "--out", tmp_path / "p.csv")
    assert done.code == 0, done.err
    assert "not measured" in done.out


@pytest.mark.usefixtures("trained")
def test_a_failed_write_leaves_the_old_predictions(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "p.csv"
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = run_cli("predict", home / "model", "digits", "--limit", 50, "--out", out)
    assert done.code == 2
    assert "no space left on device" in done.err
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
