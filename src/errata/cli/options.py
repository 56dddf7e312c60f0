"""How a command declares a flag, and how it takes a group of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import typer

__all__ = ["option", "spread"]


def option(panel: str, *names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """Declare a flag that `--help` lists under the title `panel`."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel, **more)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of a command's flag groups as flags of the command.

    A parameter that is annotated with a dataclass stands for all fields of it, so a group of flags
    is declared once and reaches the command as one typed object.
    """
    flat: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        kind = typing.cast("type[Any]", parameter.annotation)
        groups[parameter.name] = kind
        hints = typing.get_type_hints(kind, include_extras=True)
        flat += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(kind)
        ]

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in dataclasses.fields(kind)})
        command(**values)

    functools.update_wrapper(run, command)
    # Typer follows neither a wrapper nor text annotations; it is told the flat list alone.
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run
