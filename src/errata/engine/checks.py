"""What a run refuses before it computes anything.

Shapes: N training rows, C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from errata.errors import SettingsError, SourceError
from errata.parts.base import Program
from errata.types import Plan, Source

__all__ = ["check_plan", "check_program", "check_source"]


def check_source(source: Source) -> None:
    """Refuse samples that nothing can be learned from.

    Raises:
        SourceError: There are fewer than two classes, or no row has a label.
    """
    if len(source.classes) < 2:
        raise SourceError(
            f"`{source.name}` has {len(source.classes)} class(es); allowed: at least 2",
            hint="a single class cannot be told from anything",
        )
    if not (source.given >= 0).any():
        raise SourceError(
            f"no row of `{source.name}` has a label; allowed: at least one row with a label",
            hint="give the labels, or check how they are read",
        )


def check_program(program: Program) -> None:
    """Refuse stages that cannot follow one another, and sizes below 1.

    Raises:
        SettingsError: A number is out of range, or nets are handed on to another number of nets.
    """
    if not program:
        raise SettingsError("the program has no stage; allowed: at least one")
    for index, stage in enumerate(program):
        recipe = stage.recipe
        for name, value in (
            ("epochs", stage.epochs),
            ("batch", stage.batch),
            ("nets", recipe.nets),
            ("views", recipe.views),
        ):
            if value < 1:
                raise SettingsError(
                    f"`{name}` of stage {index} is `{value}`; allowed: 1 and above",
                    hint="give a larger number",
                )
        before = program[index - 1].recipe.nets if index else recipe.nets
        if not stage.reset and before != recipe.nets:
            raise SettingsError(
                f"stage {index} goes on with the nets of the stage before, but has {recipe.nets} "
                f"of them instead of {before}; allowed: the same number",
                hint="set `reset` to start from fresh nets",
            )


def check_plan(plan: Plan, given: Int[Tensor, " N"], *, classes: int) -> list[int]:
    """Refuse a plan without rows; list the classes that have labels, but no row in the plan.

    Args:
        plan: What the parts have made of an epoch.
        given: [N] labels of all rows, on the CPU; -1 is unlabelled.
        classes: Number of classes.

    Raises:
        SettingsError: A group has no rows.
    """
    groups = [group for lap in plan.laps for group in lap.groups]
    training = [
        group.rows.cpu() for lap in plan.laps for group in lap.groups if lap.pool == "train"
    ]
    if not groups or min(len(group.rows) for group in groups) == 0:
        raise SettingsError(
            "the epoch's plan has no rows left; allowed: at least one per group",
            hint="soften the part that selects rows",
        )
    if not training:
        return []
    labels = given[torch.cat(training)]
    # The target of such a row would be that of the last class.
    assert bool((labels >= 0).all()), "a part has planned rows without label"
    present = torch.bincount(labels, minlength=classes)
    before = torch.bincount(given[given >= 0], minlength=classes)
    missing: list[int] = ((present == 0) & (before > 0)).nonzero()[:, 0].tolist()
    return missing
