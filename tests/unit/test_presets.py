"""Presets: every one can be built, changed by flags, and is refused where it is no preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from errata.config import Settings, load_preset, preset_names, program_of, set_paths, stages_of
from errata.data import Augment
from errata.errors import SettingsError
from errata.models import build_model

from .cli_runner import run_cli


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_its_program_and_model(name: str):
    preset = load_preset(name)
    stages = stages_of(preset.recipe, rows=50_000, epochs=preset.epochs)
    program = program_of(set_paths(Settings(recipe=preset.recipe, stage=stages), preset.set))
    assert sum(stage.epochs for stage in program) >= (preset.epochs or 1)
    Augment.parse(preset.augment)
    if ":" not in preset.model and preset.model != "auto":
        import torch

        with torch.device("meta"):
            build_model(preset.model, (3, 32, 32), 10)
    assert preset.paper.source
    assert preset.paper.data


def write(folder: Path, text: str) -> str:
    place = folder / "own.toml"
    place.write_text(text, encoding="utf-8")
    return str(place)


OWN = 'recipe = "odd"\nepochs = 3\nset = ["stage.parts.odd.percentile=7"]\n[paper]\nsource = "me"\n'


def test_flags_change_what_a_preset_says(tmp_path: Path):
    own = write(tmp_path, OWN + 'data = "digits"\n')
    out = tmp_path / "model"
    done = run_cli(
        "train", "digits", "--limit", "200", "--preset", own, "--set", "stage.batch=64",
        "--epochs", "2", "--out", str(out), "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    settings = (out / "settings.toml").read_text()
    assert 'recipe = "odd"' in settings
    assert "percentile = 7" in settings
    assert "batch = 64" in settings
    assert "epochs = 2" in settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = 3\n", "has no `recipe`"),
        ('recipe = "odd"\n', "has no `paper`"),
        ("recipe = ", "is not TOML"),
        (OWN, "data"),
        ("epocs = 3\n" + OWN + 'data = "x"\n', "did you mean `epochs`"),
    ],
)
def test_files_that_are_no_presets_are_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        load_preset(write(tmp_path, text))
    assert words in f"{caught.value} {caught.value.hint}"


def test_unknown_names_and_a_second_recipe_are_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="preset `od-cifar100` is unknown"):
        load_preset("od-cifar100")
    with pytest.raises(SettingsError, match="does not exist"):
        load_preset(str(tmp_path / "no.toml"))
    done = run_cli("audit", "digits", "--preset", "odd-cifar100", "--recipe", "gce")
    assert done.code == 2
    assert "preset `odd-cifar100` is of recipe `odd`" in done.err


def test_presets_are_listed():
    done = run_cli("recipes", "--presets", "--json")
    assert [entry["name"] for entry in done.json["presets"]] == list(preset_names())
