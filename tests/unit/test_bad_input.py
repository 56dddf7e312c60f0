"""What a user gets wrong is told before training starts: what, what is allowed, what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import EXACT, one_stage, pictures

from errata.engine import TrainingRun, fit
from errata.errors import SettingsError

from .cli_runner import run_cli

EYE = np.eye(10)
LEAKY = EYE * 0.8
TURNED = np.where(np.arange(10) == 0, 0.5, EYE * 0.5)
TURNED[0, 0] = 1
WITH_NAN = np.where(EYE == 1, np.nan, 0.0)
SINGULAR = np.full((10, 10), 0.1)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(run: TrainingRun, epoch: int) -> None:
        raise AssertionError("training has started")

    monkeypatch.setattr(TrainingRun, "start_epoch", start)


def refusal(folder: Path, *argv: str) -> str:
    """Train on digits as a user types it, and give what errata answers."""
    shape = ("--epochs", "6", "--limit", "300", "--model", "mlp", "--quiet")
    done = run_cli("train", "digits", *shape, "--out", folder / "model", *argv)
    assert done.code == 2, done.err
    assert "allowed" in done.err, done.err
    assert "hint: " in done.err, done.err
    # Not even an unfinished place, which would be in the way of the next try.
    assert not list(folder.glob("*model*")), list(folder.iterdir())
    return done.err


@pytest.mark.parametrize(
    ("recipe", "value", "words"),
    [
        # More than a class has, which is 25 to 28 rows of 270.
        ("smp", "parts.smp.p=500", "smp p `500` is more than the 2"),
        ("smp", "parts.smp.m=500", "smp m `500` is more than the 2"),
        ("smp", "parts.smp.p=2000", "smp p `2000` is more than its 1280 candidates"),
        ("smp", "parts.smp.start=6ep", "smp start `6ep` is not within a stage of 6 epochs"),
        ("joint", "parts.joint.start=90ep", "joint start `90ep` is not within a stage of 4"),
        ("odd", "parts.odd.at=6ep", "odd at `6ep` is not within a stage of 6 epochs"),
        ("truncated-gce", "parts.prune.start=9ep", "prune start `9ep` is not within a stage of 6"),
        ("vol-min", "parts.vol-min.start=9ep", "start `9ep` is not within a stage of 6"),
        ("sukhbaatar", "parts.sukhbaatar.start=9ep", "start `9ep` is not within a stage of 6"),
        ("nnaqc", "parts.nnaqc.decay=-1", "nnaqc decay `-1.0` is out of range"),
        ("odd", "parts.odd.percentile=120", "odd percentile `120.0` is out of range"),
        ("gce", "loss.q=1.5", "`q` of loss `gce` is `1.5`"),
        ("bootstrap-soft", "loss.beta=0", "`beta` of loss `bootstrap-soft` is `0"),
        ("warp", "loss.alphas=top", "`alphas` of loss `warp` is `top`"),
        ("unhinged", "loss.radius=-1", "`radius` of loss `unhinged` is `-1"),
        ("truncated-gce", "parts.prune.k=1", "prune k `1.0` is out of range"),
    ],
)
def test_values_that_cannot_be(recipe: str, value: str, words: str, tmp_path: Path):
    stage = "stage.0." if recipe == "joint" else "stage."
    assert words in refusal(tmp_path, "--recipe", recipe, "--set", stage + value)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (SINGULAR, "is singular"),
        (LEAKY, "row 0 of transition matrix"),
        (TURNED.T, "transpose it"),
        (WITH_NAN, "is no distribution"),
        (EYE[:, :9], "has the shape `(10, 9)`"),
        (np.eye(2), "has the shape `(2, 2)`"),
    ],
)
def test_files_that_are_no_transition_matrix(matrix: np.ndarray, words: str, tmp_path: Path):
    np.savetxt(tmp_path / "T.csv", matrix, delimiter=",")
    value = f"stage.parts.transition-matrix.file={tmp_path / 'T.csv'}"
    assert words in refusal(tmp_path, "--recipe", "forward", "--set", value)


def test_a_later_stage_is_refused_before_the_first_one_trains(tmp_path: Path):
    np.savetxt(tmp_path / "T.csv", LEAKY, delimiter=",")
    value = f"stage.1.parts.transition-matrix.file={tmp_path / 'T.csv'}"
    words = refusal(tmp_path, "--recipe", "forward", "--set", value)
    assert "row 0 of transition matrix" in words


@pytest.mark.parametrize("rows", ["nope,1\nnor this,0\n", "0,1\nnope,0\n"])
def test_verified_rows_that_the_data_do_not_have(rows: str, tmp_path: Path):
    (tmp_path / "verified.csv").write_text("id,is_correct\n" + rows)
    words = refusal(tmp_path, "--recipe", "smp", "--verified", str(tmp_path / "verified.csv"))
    assert "`nope`" in words


def test_a_head_that_is_not_linear_with_the_simulation_of_odd():
    class Convolved(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Conv2d(1, 3, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x).mean((2, 3))

    with pytest.raises(SettingsError) as caught:
        fit(one_stage("odd"), pictures(), model=Convolved, engine=EXACT)
    assert "odd-phantom" in f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(AssertionError, match="training has started"):
        fit(one_stage("odd-phantom"), pictures(), model=Convolved, engine=EXACT)


@pytest.mark.parametrize(
    "recipe", ["gce+sce", "smp+joint", "cutmix+mixup", "cascade:0", "odd:3", "od"]
)
def test_recipes_that_make_no_sense(recipe: str, tmp_path: Path):
    done = run_cli("train", "digits", "--recipe", recipe, "--out", tmp_path / "model")
    assert done.code == 2
    assert f"`{recipe.split(':', maxsplit=1)[0]}" in done.err
    assert "hint: " in done.err
