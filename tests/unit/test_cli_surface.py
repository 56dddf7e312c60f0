"""The commands and their flags are a contract: they change with a changelog line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from errata.cli.app import app

from .cli_runner import run_cli

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cli"

EVERYWHERE = ["--json", "--quiet", "--seed", "--device"]
READING = ["--labels", "--images", "--limit", "--column"]
SOURCE = [*READING, "--size", "--noise", "--truth", "--test", "--clean", "--verified"]
TRAINING = ["--recipe", "--preset", "--model", "--epochs", "--augment", "--set", "--compile"]
ENGINE = ["--precision", "--threads"]
PLACE = ["--out", "--resume", "--overwrite"]

SURFACE = {
    "audit": [
        *(*SOURCE, *TRAINING, *ENGINE, *PLACE),
        *("--folds", "--features", "--flag", "--obvious", "--open-set"),
    ],
    "score": ["--features", "--ids", "--truth", "--flag", "--out"],
    "show": ["--limit", "--given", "--proposed", "--tier"],
    "review": [
        *("--port", "--host", "--i-understand", "--reviewer", "--budget", "--controls"),
        *("--blind", "--open"),
    ],
    "export": ["--out", "--as", "--limit", "--controls", "--blind", "--images"],
    "import": ["--as", "--reviewer"],
    "apply": ["--policy", "--auto-above", "--drop-above", "--out", "--verified-out", "--copy"],
    "report": [],
    "train": [*SOURCE, *TRAINING, *ENGINE, *PLACE, "--calibration"],
    "predict": [*READING, *ENGINE, "--out", "--split", "--coverage", "--risk"],
    "noise": [*READING, "--noise", "--out", "--truth"],
    "recipes": ["--needs", "--presets"],
    "bench list": ["--results"],
    "bench next": ["--minutes", "--results", "--only", "--threads"],
    "bench run": ["--threads"],
    "bench table": ["--results", "--noise", "--markdown"],
}
ARGUMENTS = {
    "audit": ["SOURCE"],
    "score": ["PROBS", "LABELS"],
    "show": ["AUDIT", "[ID]"],
    "review": ["AUDIT"],
    "export": ["AUDIT"],
    "import": ["AUDIT", "FILE"],
    "apply": ["AUDIT"],
    "report": ["AUDIT"],
    "train": ["SOURCE"],
    "predict": ["MODEL", "SOURCE"],
    "noise": ["SOURCE"],
    "recipes": ["[NAME]"],
    "bench list": [],
    "bench next": ["SUITE"],
    "bench run": ["SUITE", "CELL"],
    "bench table": ["SUITE"],
}


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Walk the commands below a group, by what people type."""
    for each, inner in command.commands.items():
        path = f"{name} {each}".strip()
        yield from leaves(inner, path) if hasattr(inner, "commands") else [(path, inner)]


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_no_command_comes_or_goes_unnoticed():
    assert set(COMMANDS) == set(SURFACE)


@pytest.mark.parametrize("name", SURFACE)
def test_flags_and_arguments_are_frozen(name: str):
    params = COMMANDS[name].params
    flags = [p.opts[0] for p in params if p.param_type_name == "option"]
    arguments = [p.metavar for p in params if p.param_type_name == "argument"]
    assert sorted(flags) == sorted([*SURFACE[name], *EVERYWHERE])
    assert arguments == ARGUMENTS[name]


@pytest.mark.parametrize("name", SURFACE)
def test_every_flag_has_help_and_every_command_an_example(name: str):
    command = COMMANDS[name]
    assert [p.name for p in command.params if not p.help] == []
    assert f"\n    errata {name}" in command.help


@pytest.mark.parametrize("name", ["", "bench", *SURFACE])
def test_help_pages_read_as_they_did(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = run_cli(*name.split(), "--help")
    golden = GOLDEN / f"{name.replace(' ', '-') or 'errata'}.txt"
    if os.environ.get("ERRATA_UPDATE_GOLDENS"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(done.out, encoding="utf-8")
    assert done.code == 0
    assert done.err == ""
    assert done.out == golden.read_text(encoding="utf-8")
    assert max(len(line) for line in done.out.splitlines()) <= 80


def test_help_of_train_lists_models_and_recipes():
    from errata.methods import recipe_names
    from errata.models import model_names

    text = " ".join(run_cli("train", "--help").out.split())
    for name in (*model_names(), *recipe_names()):
        assert name in text


def test_version_is_one_line():
    import errata

    assert run_cli("--version").out == f"errata {errata.__version__}\n"


@pytest.mark.parametrize("argv", [(), ("bench",)])
def test_no_command_shows_the_help_and_is_bad_usage(argv: tuple[str, ...]):
    done = run_cli(*argv)
    assert done.code == 2
    assert done.out == ""
    assert "Commands:" in done.err
