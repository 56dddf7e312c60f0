"""Which detectors an audit asks, and what they need: checked before any work is done."""

from __future__ import annotations

from errata.config.schema import Settings
from errata.detect import detector_named
from errata.errors import SettingsError

__all__ = ["USUAL", "asked_detectors", "check_detect"]

USUAL = "default"
"""Stands for the detectors that an audit asks unless told otherwise."""
_NEEDS = {"bootstrap": ("noise_model_ensemble",), "threshold": ("threshold",)}
_HINTS = {"bootstrap": "8 members are usual", "threshold": "2 trainings judge every row"}
_OFTEN = {"bootstrap": 8, "threshold": 2}


def asked_detectors(settings: Settings) -> list[str]:
    """List the names that ``detect.detectors`` holds, each once, `USUAL` as it stands."""
    return list(dict.fromkeys(name.strip() for name in settings.detect.detectors.split(",")))


def check_detect(settings: Settings) -> None:
    """Refuse detectors that nobody knows or that lack a training, before any work is done.

    Raises:
        SettingsError: A name is unknown, a number is out of range, or two settings contradict.
    """
    names = asked_detectors(settings)
    for name in names:
        if name != USUAL:
            detector_named(name)
    for key, needy in _NEEDS.items():
        value = getattr(settings.detect, key)
        if value < 0 or value == 1:
            raise SettingsError(
                f"`detect.{key}` is `{value}`; allowed: 0 (off), or 2 and above", hint=_HINTS[key]
            )
        found = [name for name in names if name in needy]
        if found and not value:
            raise SettingsError(
                f"detector `{found[0]}` needs further trainings; allowed: with `detect.{key}`",
                hint=f"add --set detect.{key}={_OFTEN[key]}",
            )
    if settings.detect.bootstrap and settings.folds:
        raise SettingsError(
            f"folds `{settings.folds}` beside `detect.bootstrap` predict the held-out rows twice; "
            "allowed: one of them",
            hint="leave --folds out",
        )
