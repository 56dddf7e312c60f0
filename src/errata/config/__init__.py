"""Settings: typed dataclasses, recipes spelled out, TOML files."""

from __future__ import annotations

from errata.config.detecting import USUAL, asked_detectors, check_detect
from errata.config.load import (
    load_settings,
    program_of,
    set_paths,
    settings_from_tree,
    settings_to_tree,
    stages_of,
)
from errata.config.presets import Paper, Preset, load_preset, preset_names
from errata.config.schema import (
    DEFAULT_RECIPE,
    DetectSettings,
    Settings,
    SourceSettings,
    StageSettings,
)

__all__ = [
    "DEFAULT_RECIPE",
    "USUAL",
    "DetectSettings",
    "Paper",
    "Preset",
    "Settings",
    "SourceSettings",
    "StageSettings",
    "asked_detectors",
    "check_detect",
    "load_preset",
    "load_settings",
    "preset_names",
    "program_of",
    "set_paths",
    "settings_from_tree",
    "settings_to_tree",
    "stages_of",
]
