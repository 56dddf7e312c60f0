"""`errata audit --features`: what features add to an audit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from errata.data import open_source
from errata.directory import AuditDirectory

from .cli_runner import run_cli


def test_neighbours_join_the_audit_and_are_its_evidence(tmp_path: Path):
    source = open_source("digits").train
    rows = np.arange(len(source.given))
    np.save(tmp_path / "f.npy", np.asarray(source.pixels(rows), np.float32).reshape(len(rows), -1))
    words = ["audit", "digits", "--recipe", "erm", "--epochs", "1", "--noise", "uniform:0.2"]
    place = tmp_path / "audit"
    done = run_cli(*words, "--features", tmp_path / "f.npy", "--out", place, "--json")
    assert done.code == 0
    plain = run_cli(*words, "--out", tmp_path / "plain", "--json")
    # One epoch tells little, and neighbours of digits much.
    assert 1 - done.json["planted"]["auroc"] < 0.5 * (1 - plain.json["planted"]["auroc"])
    with (place / "issues.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    record = AuditDirectory.open(place).record(first["id"])
    nearest = AuditDirectory.open(place).record(record.neighbours[0])
    assert record.reasons[-1].kind == "neighbours"
    assert f": {nearest.id} ({nearest.given})" in record.reasons[-1].text


def test_features_that_do_not_fit_are_refused_before_training(tmp_path: Path):
    np.save(tmp_path / "f.npy", np.ones((7, 3), np.float32))
    done = run_cli("audit", "digits", "--features", tmp_path / "f.npy", "--out", tmp_path / "a")
    assert done.code == 2
    assert "there are 7 rows" in done.err
    assert "training" not in done.err
