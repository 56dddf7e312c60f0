"""`errata predict` on a model with a calibration: sets, abstention, and honest numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from errata.engine.modelfile import load_model
from errata.errors import SettingsError

from .cli_runner import Done, run_cli

QUICK = ("--epochs", 3, "--model", "mlp", "--noise", "uniform:0.3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("predict")
    done = run_cli("train", "digits", *QUICK, "--out", place / "model", "--json")
    assert done.code == 0, done.err
    (place / "train.json").write_text(done.out)
    return place


def predict(home: Path, *flags: object) -> Done:
    out = home / "p.csv"
    return run_cli("predict", home / "model", "digits", "--split", "test", "--out", out, *flags)


def lines_of(home: Path) -> list[dict[str, str]]:
    with (home / "p.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_train_keeps_a_tenth_out_and_says_what_it_found(home: Path):
    told = json.loads((home / "train.json").read_text())
    assert told["rows"] + told["calibration"]["rows"] == 1438
    assert told["calibration"]["rows"] == 144
    assert told["calibration"]["method"] in ("uniform", "class")
    assert 0.1 < told["calibration"]["noise_rate"] < 0.5


def test_calibration_makes_confidence_more_honest_under_noise(home: Path):
    test = json.loads((home / "train.json").read_text())["test"]
    assert test["ece"] < test["uncalibrated"]["ece"]
    assert test["nll"] < test["uncalibrated"]["nll"]


def test_predict_measures_as_train_did(home: Path):
    told = json.loads((home / "train.json").read_text())
    done = predict(home, "--json")
    assert done.code == 0, done.err
    for key in ("accuracy", "ece", "nll", "brier", "aurc", "coverage_90", "set_size_90"):
        assert done.json["test"][key] == pytest.approx(told["test"][key], abs=1e-5), key
    assert done.json["calibration"] == told["calibration"]


def test_sets_stand_in_their_column_likeliest_first(home: Path):
    done = predict(home, "--coverage", 0.9, "--json")
    assert done.code == 0, done.err
    lines = lines_of(home)
    assert list(lines[0])[-1] == "set"
    sizes = [len(line["set"].split("|")) if line["set"] else 0 for line in lines]
    assert done.json["set_size"] == pytest.approx(np.mean(sizes))
    assert done.json["set_size"] == pytest.approx(done.json["test"]["set_size_90"])
    assert all(line["set"].split("|")[0] in (line["label"], "") for line in lines)


def test_a_larger_coverage_takes_larger_sets(home: Path):
    small, large = (predict(home, "--coverage", c, "--json").json for c in (0.5, 0.95))
    assert small["set_size"] < large["set_size"]


def test_where_the_risk_is_too_high_the_label_stays_empty(home: Path):
    done = predict(home, "--risk", 0.000001, "--json")
    assert done.code == 0, done.err
    assert done.json["abstained"] == done.json["rows"]
    assert {(line["label"], line["second"]) for line in lines_of(home)} == {("", "")}
    assert predict(home, "--risk", 0.9, "--json").json["abstained"] < done.json["rows"]


@pytest.mark.parametrize("flag", ["--coverage", "--risk"])
@pytest.mark.parametrize("value", [0, 1, -0.5, 90])
def test_a_share_out_of_range_is_refused(home: Path, flag: str, value: float):
    done = predict(home, flag, value)
    assert done.code == 2
    assert f"{flag} `{float(value)}` is not allowed" in done.err


def test_a_model_without_calibration_warns_and_makes_no_sets(home: Path):
    flags = ("--calibration", 0, "--out", home / "bare", "--json")
    trained = run_cli("train", "digits", *QUICK, *flags)
    assert trained.json["calibration"] is None
    assert trained.json["test"]["uncalibrated"] is None
    assert trained.json["rows"] == 1438
    out = home / "bare.csv"
    done = run_cli("predict", home / "bare", "digits", "--split", "test", "--out", out)
    assert done.code == 0
    assert "has no calibration" in done.err
    refused = run_cli("predict", home / "bare", "digits", "--out", out, "--coverage", 0.9)
    assert refused.code == 2
    assert "errata train SOURCE --calibration 0.1" in refused.err


def test_a_share_of_all_rows_is_refused():
    done = run_cli("train", "digits", *QUICK, "--calibration", 1)
    assert done.code == 2
    assert "calibration `1.0` is not allowed" in done.err


@pytest.mark.parametrize("damage", [{"temperature": -1.0}, {"temperature": "warm"}, {}])
def test_a_damaged_calibration_is_refused_as_a_whole(home: Path, tmp_path: Path, damage: dict):
    folder = home / "model"
    document = json.loads((folder / "model.json").read_text())
    document["calibration"] = (document["calibration"] | damage) if damage else {}
    (tmp_path / "model.json").write_text(json.dumps(document))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(SettingsError, match="cannot be read"):
        load_model(tmp_path)


@pytest.mark.slow
def test_an_audit_with_folds_is_calibrated_on_what_they_held_out(home: Path):
    out = home / "audit"
    done = run_cli("audit", "digits", *QUICK, "--folds", 2, "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["calibration"]["rows"] == done.json["rows"]
    model = load_model(out)
    assert model.calibration is not None
    assert model.calibration.noise_rate == pytest.approx(0.27, abs=0.1)
