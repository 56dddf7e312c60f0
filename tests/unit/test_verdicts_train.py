"""What people said of an audit's rows reaches the recipes that learn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from errata.config import Settings, SourceSettings
from errata.directory import AuditDirectory
from errata.errors import SettingsError
from errata.job import check_inputs
from errata.review.decision import Verdict
from errata.review.standing import open_journal

from .cli_runner import run_cli

DIGITS = ("digits", "--limit", "300")
SHORT = ("--model", "mlp", "--epochs", "2", "--threads", "1", "--calibration", "0")


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Audit digits with planted errors, judge 60 rows by the truth, and apply the verdicts."""
    folder = tmp_path_factory.mktemp("reviewed")
    audit = folder / "audit"
    done = run_cli("audit", *DIGITS, *SHORT[:4], "--noise", "uniform:0.3", "--out", audit)
    assert done.code == 0, done.err
    found = AuditDirectory.open(audit)
    truth = np.load(audit / "truth.npz")["clean"]
    with open_journal(found) as journal:
        for row in range(60):
            key, label = str(found.ledger.ids[row]), str(found.ledger.classes[truth[row]])
            journal.add(Verdict(f"v{row}", row, key, "relabel", label, reviewer="ada"))
    labels, verified = folder / "labels.csv", folder / "verified.csv"
    done = run_cli("apply", audit, "--out", labels, "--verified-out", verified)
    assert done.code == 0, done.err
    return folder


def trained(folder: Path, recipe: str, out: Path, *more: object) -> dict:
    flags = ("--labels", folder / "labels.csv", "--verified", folder / "verified.csv")
    done = run_cli(
        "train", *DIGITS, *SHORT, *flags, "--recipe", recipe, "--out", out, "--json", *more
    )
    assert done.code == 0, done.err
    return done.json


@pytest.mark.parametrize("recipe", ["l2rw", "mw-net"])
def test_rows_that_people_labelled_are_the_trusted_samples(
    reviewed: Path, recipe: str, tmp_path: Path
):
    summary = trained(reviewed, recipe, tmp_path / "model")
    assert summary["verified_rows"] == 60
    assert summary["clean_rows"] is None
    assert summary["notes"][recipe.replace("-", "_")] == {"trusted_rows": 60}


def test_cleannet_learns_from_verdicts_although_all_labels_were_corrected(
    reviewed: Path, tmp_path: Path
):
    summary = trained(
        reviewed, "cleannet", tmp_path / "model", "--set", "stage.0.parts.cleannet.passes=20"
    )
    assert 0 < summary["notes"]["cleannet"]["mean_weight"] < 1
    model = AuditDirectory.open(tmp_path / "model")
    assert (model.ledger.read("weight")[:60] == 1).all()


def test_fine_tuning_takes_them_as_well(reviewed: Path, tmp_path: Path):
    summary = trained(reviewed, "erm+finetune", tmp_path / "model")
    assert summary["epochs"] == 3


@pytest.mark.parametrize("recipe", ["l2rw", "mw-net", "clean-only"])
def test_without_any_trusted_rows_the_flag_is_named_before_training(recipe: str, tmp_path: Path):
    done = run_cli("train", *DIGITS, "--recipe", recipe, "--out", tmp_path / "model")
    assert done.code == 2
    assert f"recipe `{recipe}` needs --clean" in done.err
    assert "--verified" in done.err
    assert not (tmp_path / "model").exists()


def test_cleannet_without_verdicts_is_refused_before_training(tmp_path: Path):
    done = run_cli("train", *DIGITS, "--recipe", "cleannet", "--out", tmp_path / "model")
    assert done.code == 2
    assert "needs --verified" in done.err


def test_verdicts_without_use_are_still_refused():
    source = SourceSettings(spec="digits", verified="verified.csv")
    with pytest.raises(SettingsError, match="--verified is given"):
        check_inputs(Settings(recipe="odd", source=source))
    both = SourceSettings(spec="digits", verified="verified.csv", clean="digits")
    with pytest.raises(SettingsError, match="--verified is given"):
        check_inputs(Settings(recipe="l2rw", source=both))
    check_inputs(Settings(recipe="smp+finetune", source=source))


def test_folds_take_verdicts_along(reviewed: Path, tmp_path: Path):
    given = ("--labels", reviewed / "labels.csv", "--verified", reviewed / "verified.csv")
    done = run_cli(
        *("audit", *DIGITS, *SHORT[:6], *given, "--recipe", "l2rw", "--folds", "2"),
        *("--out", tmp_path / "audit"),
    )
    assert done.code == 0, done.err
