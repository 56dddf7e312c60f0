"""From names and ``--set`` to settings, from settings to programs, and TOML files read back."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errata.config.schema import Settings, StageSettings
from errata.engine.fit import default_batch, default_epochs
from errata.engine.step import step_named
from errata.errors import SettingsError
from errata.losses import loss_named
from errata.methods import phases_named
from errata.parts.base import Program, Recipe, Stage, part_named, stages_of_phases

__all__ = [
    "build",
    "load_settings",
    "program_of",
    "set_paths",
    "settings_from_tree",
    "settings_to_tree",
    "stages_of",
]

Tree = dict[str, Any]


def stages_of(recipe: str, *, rows: int, epochs: int | None = None) -> list[StageSettings]:
    """Spell out a recipe as stages, with epochs and batch chosen from the number of rows.

    Raises:
        SettingsError: The recipe is unknown, or `epochs` is below 1.
    """
    if epochs is not None and epochs < 1:
        raise SettingsError(
            f"epochs `{epochs}` is out of range; allowed: 1 and above",
            hint="leave --epochs out to let errata choose",
        )
    return [
        StageSettings(
            epochs=stage.epochs,
            batch=stage.batch,
            reset=stage.reset,
            step=stage.recipe.step,
            nets=stage.recipe.nets,
            views=stage.recipe.views,
            loss={"kind": stage.recipe.loss, **stage.recipe.loss_values},
            parts=[{"kind": part.kind, **_fields(part)} for part in stage.recipe.parts],
            optimizer=stage.optimizer,
        )
        for stage in stages_of_phases(
            phases_named(recipe), epochs=epochs or default_epochs(rows), batch=default_batch(rows)
        )
    ]


def _fields(part: Any) -> Tree:
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}


def program_of(settings: Settings) -> Program:
    """Build the program that the settings spell out.

    Raises:
        SettingsError: A part or a loss is unknown, or one of their values is not allowed.
    """
    return tuple(_stage(stage, f"stage.{i}") for i, stage in enumerate(settings.stage))


def _stage(stage: StageSettings, path: str) -> Stage:
    for name in ("epochs", "batch", "nets", "views"):
        if getattr(stage, name) < 1:
            raise SettingsError(
                f"`{path}.{name}` is `{getattr(stage, name)}`; allowed: 1 and above",
                hint=f"for example --set {path}.{name}=2",
            )
    step_named(stage.step)
    loss = dict(stage.loss)
    kind = loss.pop("kind", "ce")
    try:
        loss_named(kind, **loss)
    except TypeError as error:
        raise SettingsError(
            f"`{path}.loss` has a value that loss `{kind}` does not take: {error}",
            hint="look at the loss in the reference",
        ) from None
    parts = []
    for values in stage.parts:
        tree = dict(values)
        part = part_named(str(tree.pop("kind", "")))
        parts.append(build(part, tree, f"{path}.parts.{part.kind}"))
    recipe = Recipe(
        loss=kind,
        loss_values=loss,
        step=stage.step,
        parts=tuple(parts),
        nets=stage.nets,
        views=stage.views,
    )
    return Stage(
        recipe=recipe,
        epochs=stage.epochs,
        batch=stage.batch,
        optimizer=stage.optimizer,
        reset=stage.reset,
    )


def build(kind: type[Any], tree: Mapping[str, Any], path: str) -> Any:
    """Build a dataclass from a tree, with its types checked by pydantic.

    Args:
        kind: The dataclass.
        tree: Nested plain values.
        path: Where the tree stands, for messages.

    Raises:
        SettingsError: A key is unknown, or a value is not allowed there.
    """
    from pydantic import TypeAdapter, ValidationError

    _check_keys(kind, tree, path)
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([path, *(str(p) for p in first["loc"])]).strip(".")
        # Pydantic says twice what it wanted, and names classes that users do not know.
        why = re.split(r", unable| or an instance of", first["msg"])[0]
        raise SettingsError(
            f"`{place}` is `{first['input']}`; {why[:1].lower()}{why[1:]}",
            hint=f"give another value: --set {place}=VALUE",
        ) from None


def _check_keys(kind: type[Any], tree: Mapping[str, Any], path: str) -> None:
    known = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key, value in tree.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            raise SettingsError(
                f"setting `{f'{path}.{key}'.strip('.')}` is unknown; allowed here: "
                f"{', '.join(known)}",
                hint=f"did you mean `{near[0]}`?" if near else "choose one of these",
            )
        inner = hints[key]
        if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            _check_keys(typing.cast("type[Any]", inner), value, f"{path}.{key}".strip("."))
        items = typing.get_args(inner)[0] if typing.get_origin(inner) is list else None
        if dataclasses.is_dataclass(items) and isinstance(value, list):
            for index, item in enumerate(value):
                inside = f"{path}.{key}.{index}".strip(".")
                _check_keys(typing.cast("type[Any]", items), item, inside)


def settings_from_tree(tree: Mapping[str, Any]) -> Settings:
    """Build settings from nested values.

    Raises:
        SettingsError: A key is unknown, or a value is not allowed there.
    """
    settings: Settings = build(Settings, tree, "")
    return settings


def settings_to_tree(settings: Settings) -> Tree:
    """Turn settings into nested plain values, without those that are None."""
    tree: Tree = _plain(dataclasses.asdict(settings))
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def set_paths(settings: Settings, changes: Sequence[str]) -> Settings:
    """Change settings by ``PATH=VALUE`` texts.

    A path names fields with dots: ``engine.precision``, ``stage.0.epochs``, ``stage.epochs`` (of
    every stage), ``stage.parts.odd.percentile``. Values are TOML: numbers, true, "text", [1, 2];
    anything else is taken as text.

    Raises:
        SettingsError: A path leads nowhere, or a value is not allowed there.
    """
    tree = settings_to_tree(settings)
    for change in changes:
        path, found, text = change.partition("=")
        if not found or not path.strip():
            raise SettingsError(
                f"--set `{change}` is not PATH=VALUE",
                hint="for example --set stage.optimizer.lr=0.05",
            )
        for place, key in _places(tree, path.strip().split("."), path.strip()):
            place[key] = _value(text.strip())
    return settings_from_tree(tree)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _places(tree: Any, keys: list[str], path: str) -> list[tuple[Tree, str]]:
    if isinstance(tree, list):
        named = [item for item in tree if isinstance(item, dict) and item.get("kind") == keys[0]]
        if keys[0].isdigit() and tree and int(keys[0]) >= len(tree):
            raise SettingsError(
                f"--set path `{path}` leads nowhere at `{keys[0]}`; allowed: "
                + ", ".join(str(item.get("kind", i)) for i, item in enumerate(tree)),
                hint="places count from 0",
            )
        if keys[0].isdigit() and tree:
            chosen, rest = [tree[int(keys[0])]], keys[1:]
        elif named:
            chosen, rest = named, keys[1:]
        elif tree and all(isinstance(item, dict) and "kind" not in item for item in tree):
            chosen, rest = tree, keys
        else:
            kinds = [str(item.get("kind", i)) for i, item in enumerate(tree)]
            raise SettingsError(
                f"--set path `{path}` leads nowhere at `{keys[0]}`; allowed: "
                f"{', '.join(kinds) or 'nothing, the list is empty'}",
                hint="settings.toml of an audit shows every path",
            )
        return [place for item in chosen for place in _places(item, rest, path)]
    if len(keys) == 1 and isinstance(tree, dict):
        return [(tree, keys[0])]
    if not keys or not isinstance(tree, dict):
        raise SettingsError(
            f"--set path `{path}` does not end at a value",
            hint="settings.toml of an audit shows every path",
        )
    return _places(tree.setdefault(keys[0], {}), keys[1:], path)


def load_settings(path: Path) -> Settings:
    """Read the settings of an audit or of a preset.

    Raises:
        SettingsError: The file is not TOML, or holds a key or value that is not allowed.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"`{path}` is not a TOML file: {error}", hint="mend it") from None
    for fact in ("format", "fingerprint", "made"):
        tree.pop(fact, None)
    return settings_from_tree(tree)
