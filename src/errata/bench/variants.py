"""Variants: the settings of a recipe changed by texts, as ``--set`` does.

The command line checks its settings with pydantic. Benchmarks also run where torch alone is
installed, so the texts are applied to the program itself here.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from torch.nn import functional

from errata.bench.suites.base import Suite, Variant
from errata.errors import SettingsError, unknown_name
from errata.losses import loss_named
from errata.methods import phases_named
from errata.models import build_model, find_head
from errata.parts.base import OptimizerSpec, Part, Program, Recipe, Stage, stages_of_phases

__all__ = ["change_program", "model_of", "program_of_variant"]

_PLACES = "`stage.epochs`, `stage.optimizer.NAME`, `stage.loss.NAME`, `stage.parts.KIND.NAME`"
D = TypeVar("D", Stage, Part, OptimizerSpec)


def program_of_variant(
    suite: Suite, variant: Variant, *, transition: Path | None = None
) -> Program:
    """Build the program of a cell.

    Args:
        suite: Gives batch, optimizer and epochs.
        variant: The recipe and what is changed about it.
        transition: File of the true transition matrix, for changes that name it.

    Raises:
        SettingsError: The recipe is unknown, or a change leads nowhere or is not allowed.
    """
    program = stages_of_phases(
        phases_named(variant.recipe),
        epochs=variant.epochs or suite.epochs,
        batch=suite.batch,
        optimizer=suite.optimizer,
    )
    texts = [change.replace("{transition}", str(transition)) for change in variant.changes]
    return change_program(program, texts)


def change_program(program: Program, changes: Sequence[str]) -> Program:
    """Change a program by ``PATH=VALUE`` texts, each over every stage that has the place.

    Paths are those of ``--set``: ``stage.optimizer.lr``, ``stage.0.loss.q``,
    ``stage.parts.odd.percentile``. Values are TOML; anything else is taken as text.

    Raises:
        SettingsError: A path leads nowhere, or a value is not allowed there.
    """
    for change in changes:
        path, found, text = change.partition("=")
        keys = path.strip().split(".")
        if not found or keys[0] != "stage" or len(keys) < 2:
            raise SettingsError(
                f"change `{change}` is not PATH=VALUE; allowed: {_PLACES}",
                hint="for example stage.optimizer.lr=0.05",
            )
        only = int(keys[1]) if keys[1].isdigit() else None
        rest = keys[1:] if only is None else keys[2:]
        told = [only in (None, index) and _has(stage, rest) for index, stage in enumerate(program)]
        if not any(told):
            raise SettingsError(
                f"change `{change}` leads nowhere; allowed: {_PLACES}",
                hint=f"the parts are {', '.join(_kinds(program)) or 'none'}",
            )
        value = _value(text.strip())
        program = tuple(
            _changed(stage, rest, value) if here else stage
            for stage, here in zip(program, told, strict=True)
        )
    return program


def model_of(
    name: str, dropout: float, shape: tuple[int, ...], classes: int
) -> str | Callable[[], nn.Module]:
    """Give a model as `fit` takes it: by name, or built with dropout before its head."""
    if not dropout:
        return name

    def drop(head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (functional.dropout(inputs[0], dropout, head.training), *inputs[1:])

    def build() -> nn.Module:
        model = build_model(name, shape, classes)
        find_head(model).register_forward_pre_hook(drop)
        return model

    return build


def _kinds(program: Program) -> list[str]:
    return sorted({part.kind for stage in program for part in stage.recipe.parts})


def _has(stage: Stage, keys: list[str]) -> bool:
    match keys:
        case ["parts", kind, _]:
            return any(part.kind == kind for part in stage.recipe.parts)
        case ["optimizer" | "loss", _]:
            return True
        case [_]:
            return True
    return False


def _changed(stage: Stage, keys: list[str], value: Any) -> Stage:
    recipe = stage.recipe
    match keys:
        case ["parts", kind, name]:
            parts = tuple(
                _replaced(part, name, value, f"setting of part `{kind}`")
                if part.kind == kind
                else part
                for part in recipe.parts
            )
            return dataclasses.replace(stage, recipe=dataclasses.replace(recipe, parts=parts))
        case ["loss", name]:
            return dataclasses.replace(stage, recipe=_with_loss(recipe, name, value))
        case ["optimizer", name]:
            optimizer = _replaced(stage.optimizer, name, value, "setting of the optimizer")
            return dataclasses.replace(stage, optimizer=optimizer)
        case [name] if name in ("nets", "views", "step"):
            return dataclasses.replace(stage, recipe=dataclasses.replace(recipe, **{name: value}))
        case _:
            return _replaced(stage, keys[0], value, "setting of a stage")


def _with_loss(recipe: Recipe, name: str, value: Any) -> Recipe:
    if name == "kind":
        changed = dataclasses.replace(recipe, loss=value, loss_values={})
    else:
        values = {**recipe.loss_values, name: value}
        changed = dataclasses.replace(recipe, loss_values=values)
    # Built once, so that a value that the loss refuses is told before training.
    loss_named(changed.loss, **changed.loss_values)
    return changed


def _replaced(settings: D, name: str, value: Any, what: str) -> D:
    known = [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]
    if name not in known:
        raise unknown_name(what, name, known)
    if isinstance(getattr(settings, name), float) and type(value) is int:
        value = float(value)
    return dataclasses.replace(settings, **{name: value})  # type: ignore[type-var]


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value
