"""Asking an audit for other detectors, and for the trainings that some of them need."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from samples import blobs, pictures

import errata
from errata import finding
from errata.config import DetectSettings, Settings, asked_detectors, check_detect
from errata.data import Arrays, Subset
from errata.detect import consensus, default_detectors, detector_named
from errata.directory import AuditDirectory
from errata.engine.bootstrap import Resampled
from errata.engine.threshold import FakeClass
from errata.errors import SettingsError


def clouds() -> tuple[Arrays, np.ndarray]:
    return blobs(240, 4, distance=6.0, wrong=0.2)


def audited(tmp_path: Path, *settings: str, epochs: int = 6) -> AuditDirectory:
    source, _ = clouds()
    return errata.audit(
        source, recipe="erm", epochs=epochs, settings=settings, out=tmp_path / "audit"
    )


def suspicion_of(audit: AuditDirectory) -> np.ndarray:
    return np.asarray(audit.ledger.read("suspicion"))


def test_names_are_a_list_in_which_each_stands_once():
    settings = Settings(detect=DetectSettings(detectors="ctrl, default,ctrl"))
    assert asked_detectors(settings) == ["ctrl", "default"]
    assert asked_detectors(Settings()) == ["default"]
    check_detect(settings)


@pytest.mark.parametrize(
    ("values", "folds", "words", "hint"),
    [
        (
            {"detectors": "ctrrl"},
            0,
            "detector `ctrrl` is unknown; allowed: .*wrong_event",
            "`ctrl`",
        ),
        ({"detectors": "default,"}, 0, "detector `` is unknown", "choose"),
        ({"detectors": "threshold"}, 0, "`threshold` needs further", "detect.threshold=2"),
        (
            {"detectors": "default,noise_model_ensemble"},
            0,
            "`noise_model_ensemble` needs further trainings; allowed: with `detect.bootstrap`",
            "detect.bootstrap=8",
        ),
        ({"bootstrap": 1}, 0, "`detect.bootstrap` is `1`; allowed: 0 .*, or 2", "8 members"),
        ({"threshold": -2}, 0, "`detect.threshold` is `-2`; allowed: 0", "2 trainings"),
        ({"bootstrap": 4}, 5, "folds `5` beside `detect.bootstrap`", "--folds"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], folds: int, words: str, hint: str):
    with pytest.raises(SettingsError, match=words) as refused:
        check_detect(Settings(folds=folds, detect=DetectSettings(**values)))
    assert hint in (refused.value.hint or "")


def test_an_audit_refuses_an_unknown_detector_before_training(tmp_path: Path):
    with pytest.raises(SettingsError, match="detector `ctrrl` is unknown"):
        audited(tmp_path, "detect.detectors=ctrrl")
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_an_audit_orders_its_rows_as_the_detector_asked_for(tmp_path: Path):
    audit = audited(tmp_path, "detect.detectors=wrong_event", "detect.trajectory=true")
    alone = consensus([detector_named("wrong_event").score(audit.ledger)])
    np.testing.assert_allclose(suspicion_of(audit), alone.suspicion, atol=1e-6)
    assert {reason.kind for record in audit.worst(5) for reason in record.reasons} == {"events"}
    assert audit.settings["detect"]["detectors"] == "wrong_event"
    assert audit.ledger.has("argmax_curve")


def test_the_usual_detectors_and_one_more_decide_together(tmp_path: Path):
    audit = audited(tmp_path, "detect.detectors=default,ctrl")
    ledger = audit.ledger
    usual = [detector.score(ledger) for detector in default_detectors(ledger)]
    together = consensus([*usual, detector_named("ctrl").score(ledger)])
    np.testing.assert_allclose(suspicion_of(audit), together.suspicion, atol=1e-6)
    assert (together.suspicion != consensus(usual).suspicion).any()
    assert not ledger.has("argmax_curve"), "trajectories are kept where asked for"


def test_a_detector_that_cannot_read_the_training_is_left_out_with_a_warning(tmp_path: Path):
    audit = audited(tmp_path, "detect.detectors=odd,ctrl")
    assert (
        "detector `odd` is left out: this training recorded no `dropped`"
        in audit.summary["warnings"]
    )
    alone = consensus([detector_named("ctrl").score(audit.ledger)])
    np.testing.assert_allclose(suspicion_of(audit), alone.suspicion, atol=1e-6)


def test_an_ensemble_and_a_threshold_are_trained_where_asked_for(tmp_path: Path):
    names = "noise_model_ensemble,threshold"
    audit = audited(
        tmp_path,
        f"detect.detectors={names}",
        "detect.bootstrap=4",
        "detect.threshold=2",
        epochs=10,
    )
    _, wrong = clouds()
    ledger = audit.ledger
    times = np.asarray(ledger.read("oof_times"))
    assert 0.2 < times.mean() / 4 < 0.5
    assert (np.isnan(np.asarray(ledger.read("epistemic"))) == (times == 0)).all()
    flagged = np.asarray(ledger.read("threshold_flag"))
    assert flagged[wrong].mean() > 0.8 > 0.2 > flagged[~wrong].mean()
    kinds = {reason.kind for record in audit.worst(10) for reason in record.reasons}
    assert kinds == {"ensemble", "threshold"}


@pytest.mark.parametrize("kind", ["resample", "fake", "subset"])
def test_weights_and_verdicts_follow_the_rows_of_a_further_training(
    kind: str, monkeypatch: pytest.MonkeyPatch
):
    source = pictures()
    rows = {"resample": np.array([5, 5, 7]), "subset": np.array([1, 3])}.get(kind, np.arange(96))
    part: Any = {
        "resample": lambda: Resampled(source, rows),
        "subset": lambda: Subset(source, rows),
        "fake": lambda: FakeClass(source, np.array([2, 4])),
    }[kind]()
    given: dict[str, Any] = {}
    monkeypatch.setattr(finding, "fit", lambda *_, **values: given.update(values))
    samples = SimpleNamespace(
        source=source, weights=np.arange(96) / 96, verified=np.ones(96, np.int64), clean=None
    )
    progress = SimpleNamespace(share=None)
    job: Any = SimpleNamespace(settings=Settings(), samples=samples, progress=progress)
    finding._fit_again(job, part, Path("nowhere"), seed=3, rows=rows)
    assert given["seed"] == 3
    assert torch.equal(given["weights"], torch.from_numpy(rows / 96))
    expected = np.ones(len(rows))
    if kind == "fake":
        expected[[2, 4]] = -1
    assert given["verified"].tolist() == expected.tolist(), "a changed label was not verified"


def test_an_audit_goes_on_where_the_recipe_has_no_room_for_one_more_class(tmp_path: Path):
    source, _ = clouds()
    classes = len(source.classes)
    np.save(tmp_path / "T.npy", np.full((classes, classes), 0.1) + np.eye(classes) * 0.6)
    audit = errata.audit(
        source,
        recipe="forward",
        epochs=4,
        settings=(
            f"stage.parts.transition-matrix.file={tmp_path / 'T.npy'}",
            "detect.threshold=2",
            "detect.detectors=default,threshold",
        ),
        out=tmp_path / "audit",
    )
    told = " ".join(audit.summary["warnings"])
    assert "threshold samples are left out" in told
    assert suspicion_of(audit).max() > 0
