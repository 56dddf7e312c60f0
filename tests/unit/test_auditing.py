"""What one audit tells beyond its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import errata
from errata.data import Arrays


def blobs(spread: float) -> Arrays:
    rng = np.random.default_rng(0)
    given = np.arange(240) % 4
    x = rng.normal(size=(240, 6)) + spread * np.eye(6)[given]
    return Arrays(x.astype(np.float32), given, classes=list("abcd"), name="blobs")


def test_an_audit_that_learned_nothing_says_so(tmp_path: Path):
    audit = errata.audit(blobs(0.0), recipe="erm", epochs=1, out=tmp_path / "a")
    assert any("has not learned the task" in text for text in audit.summary["warnings"])


def test_an_audit_that_learned_says_nothing_of_it(tmp_path: Path):
    audit = errata.audit(blobs(8.0), recipe="erm", epochs=20, out=tmp_path / "a")
    assert not any("learned the task" in text for text in audit.summary["warnings"])
    assert audit.summary["suspects"] <= 5
    assert len(audit.worst(3)) == 3


def test_objects_and_settings_reach_the_audit(tmp_path: Path):
    source = blobs(8.0)
    audit = errata.audit(
        source,
        recipe="erm",
        epochs=2,
        tests={"held": source},
        settings=["stage.optimizer.lr=0.05"],
        out=tmp_path / "a",
    )
    assert audit.summary["test"]["rows"] == 240
    assert audit.settings["stage"][0]["optimizer"]["lr"] == 0.05
