"""Presets: the settings of one row of a paper's table, by name.

A preset is a TOML file: a recipe, its epochs, the changes that the paper makes to our defaults,
and in `paper` the row, with the score that was published for it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from errata.config.load import build
from errata.errors import SettingsError, unknown_name

__all__ = ["Paper", "Preset", "load_preset", "preset_names"]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The row that a preset repeats.

    Attributes:
        source: The paper.
        data: What it was trained on.
        score: As published, with its unit; empty where none is known.
        note: What of the settings is not the paper's, or could not be verified.
    """

    source: str
    data: str
    score: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings to start from.

    Attributes:
        recipe: One name, or several joined by ``+``.
        epochs: Of all stages together.
        model: As after ``--model``.
        augment: As after ``--augment``.
        set: Changes as after ``--set``, made before those of the user.
    """

    recipe: str
    paper: Paper
    epochs: int | None = None
    model: str = "auto"
    augment: str = "none"
    set: list[str] = field(default_factory=list)


def preset_names() -> tuple[str, ...]:
    """List the presets that come with errata."""
    folder = resources.files("errata.config") / "papers"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if _is_toml(f.name)))


def load_preset(name: str) -> Preset:
    """Read a preset by its name, or from a file of your own.

    Raises:
        SettingsError: There is none of this name, or the file is no preset.
    """
    if _is_toml(name):
        place = Path(name)
        if not place.is_file():
            raise SettingsError(
                f"preset `{name}` does not exist; allowed: a TOML file or a name",
                hint=f"names: {', '.join(preset_names())}",
            )
        text = place.read_text("utf-8")
    elif name in preset_names():
        text = (resources.files("errata.config") / "papers" / f"{name}.toml").read_text("utf-8")
    else:
        raise unknown_name("preset", name, preset_names())
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"preset `{name}` is not TOML: {error}", hint="mend it") from None
    for needed in ("recipe", "paper"):
        if needed not in tree:
            raise SettingsError(
                f"preset `{name}` has no `{needed}`; it needs `recipe` and `paper`",
                hint="a preset of ours shows the form: errata recipes --presets",
            )
    preset: Preset = build(Preset, tree, f"preset {name}")
    return preset


def _is_toml(name: str) -> bool:
    return name.endswith(".toml")
