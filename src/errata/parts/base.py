"""Recipes: one loss, one step rule, an ordered list of parts; stages and programs of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.types import Batch, Plan, Run, Seen

__all__ = [
    "OptimizerSpec",
    "Part",
    "Phase",
    "Program",
    "Recipe",
    "Stage",
    "part_named",
    "part_names",
    "register_part",
    "stages_of_phases",
]


class Part:
    """One idea, told in a few of seven seams. Every default changes nothing.

    Subclasses are dataclasses: constructor fields are hyper-parameters, and attributes with a
    trailing underscore appear in `setup`. What must survive a checkpoint is a ledger column.
    """

    kind: str = ""
    """Name under which the part is registered."""

    def setup(self, run: Run) -> None:
        """Add ledger columns and reset what the last fit left; called when a stage starts."""

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Choose this epoch's rows. Chained."""
        return plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Change targets, weights or views of a batch before the forward pass. Chained."""
        return batch

    def weigh(self, run: Run, net: int, seen: Mapping[int, Seen]) -> Tensor | None:
        """Weigh the rows of a batch [B] after the forward pass. Multiplied; None is all ones."""
        return None

    def penalty(self, run: Run, net: int, seen: Seen) -> Tensor | None:
        """Add a scalar to the objective. Summed; None is zero."""
        return None

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Look at the step just taken."""

    def after_epoch(self, run: Run) -> None:
        """Look at the merged ledger."""


Kind = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant", "step", "cyclical"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """How a stage moves its weights.

    Attributes:
        lr: Learning rate at the start.
        schedule: ``cosine`` falls to 0 over the stage, step by step; ``constant`` stays;
            ``step`` multiplies by `decay` at each of `milestones` (shares of the stage);
            ``cyclical`` falls straight to `lr` times `decay` in each `cycle` [epochs], as O2U-Net.
        clip: Largest norm of the gradient of one net; 0 leaves it alone.
    """

    kind: Kind = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    cycle: int = 10
    clip: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown_name("optimizer", self.kind, get_args(Kind))
        if self.schedule not in get_args(Schedule):
            raise unknown_name("schedule", self.schedule, get_args(Schedule))
        for name in ("lr", "momentum", "weight_decay", "decay", "clip"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise SettingsError(
                    f"optimizer {name} `{value}` is out of range; allowed: 0 and above",
                    hint=f"leave `{name}` out for the default",
                )
        if self.cycle < 1:
            raise SettingsError(
                f"optimizer cycle `{self.cycle}` is out of range; allowed: 1 epoch and above",
                hint="leave `cycle` out for the default",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One loss, one step rule and an ordered list of parts.

    Attributes:
        loss: Name of a registered loss, with `loss_values` as its arguments.
        step: Name of the step rule; ``plain`` is one forward and one backward pass.
        nets: Networks trained side by side.
        views: Augmented views drawn per row.
    """

    loss: str = "ce"
    loss_values: Mapping[str, Any] = field(default_factory=dict)
    step: str = "plain"
    parts: tuple[Part, ...] = ()
    nets: int = 1
    views: int = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A recipe for a number of epochs. `reset` starts from fresh weights."""

    recipe: Recipe = field(default_factory=Recipe)
    epochs: int
    batch: int = 128
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    reset: bool = True


Program = tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stage before its length is known: what a recipe of several stages is made of.

    Attributes:
        share: Of the epochs asked for; the shares of a recipe sum to one, those of phases that
            come `after` left out.
        optimizer: None takes that of the run.
        reset: Starts from fresh weights.
        after: Comes after all other phases, on top of their epochs, and takes no parts of the
            recipes it is composed with; fine-tuning is one.
    """

    recipe: Recipe = field(default_factory=Recipe)
    share: float = 1.0
    optimizer: OptimizerSpec | None = None
    reset: bool = True
    after: bool = False


def stages_of_phases(
    phases: tuple[Phase, ...], *, epochs: int, batch: int, optimizer: OptimizerSpec | None = None
) -> Program:
    """Give phases their lengths.

    Args:
        phases: Of one recipe.
        epochs: Of all phases together, those that come `after` left out; every phase gets at
            least one.
        batch: Rows of a batch.
        optimizer: For the phases that bring none; None takes the default.

    Example:
        >>> phases = (Phase(share=0.6), Phase(share=0.4))
        >>> [stage.epochs for stage in stages_of_phases(phases, epochs=60, batch=128)]
        [36, 24]
    """
    stages = []
    done = share = 0.0
    for phase in phases:
        share += phase.share
        length = phase.share * epochs if phase.after else round(share * epochs) - done
        length = max(1, round(length))
        done += 0 if phase.after else length
        stages.append(
            Stage(
                recipe=phase.recipe,
                epochs=length,
                batch=batch,
                optimizer=phase.optimizer or optimizer or OptimizerSpec(),
                reset=phase.reset,
            )
        )
    return tuple(stages)


P = TypeVar("P", bound=type[Part])
_PARTS: dict[str, type[Part]] = {}


def register_part(name: str) -> Callable[[P], P]:
    """Make a part known by name, to settings and to the contract battery."""

    def add(part: P) -> P:
        assert name not in _PARTS, f"part {name} is registered twice"
        part.kind = name
        _PARTS[name] = part
        return part

    return add


def part_names() -> tuple[str, ...]:
    """List the registered parts."""
    return tuple(sorted(_PARTS))


def part_named(name: str) -> type[Part]:
    """Find a registered part.

    Raises:
        SettingsError: No part has this name.
    """
    if name not in _PARTS:
        raise unknown_name("part", name, _PARTS)
    return _PARTS[name]
