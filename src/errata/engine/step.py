"""The step slot: what one batch does to the nets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from errata.errors import unknown_name
from errata.types import Batch, Lap, Seen

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["Step", "objective", "plain_step", "register_step", "step_named", "update"]

Step = Callable[["TrainingRun", Lap, Batch], Mapping[int, Seen]]


def objective(run: TrainingRun, lap: Lap, batch: Batch) -> tuple[Tensor, dict[int, Seen]]:
    """Give the scalar to descend on, and what each net saw.

    Weights are not renormalised: a part that wants mean one says so itself.
    """
    parts = run.parts
    seen: dict[int, Seen] = {}
    for net in lap.nets:
        changed = batch
        for part in parts:
            changed = part.prepare(run, net, changed)
        seen[net] = run.look(net, changed, plain=batch)
    terms = []
    for net in lap.nets:
        weight = seen[net].batch.weight
        for part in parts:
            factor = part.weigh(run, net, seen)
            weight = weight if factor is None else weight * factor
        terms.append((weight * seen[net].losses).mean())
        penalties = (part.penalty(run, net, seen[net]) for part in parts)
        terms.extend(penalty for penalty in penalties if penalty is not None)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total, seen


def update(run: TrainingRun, total: Tensor, nets: tuple[int, ...]) -> None:
    """Move the weights of these nets along the gradient of `total`."""
    for net in nets:
        run.optimizers[net].zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    for net in nets:
        run.reduce_and_clip(net)
        run.optimizers[net].step()


def plain_step(run: TrainingRun, lap: Lap, batch: Batch) -> dict[int, Seen]:
    """One forward and one backward pass."""
    total, seen = objective(run, lap, batch)
    update(run, total, lap.nets)
    return seen


_STEPS: dict[str, Step] = {"plain": plain_step}


def register_step(name: str, step: Step) -> None:
    """Make a step rule known by name."""
    assert name not in _STEPS, f"step {name} is registered twice"
    _STEPS[name] = step


def step_named(name: str) -> Step:
    """Find a registered step rule.

    Raises:
        SettingsError: No step rule has this name.
    """
    if name not in _STEPS:
        raise unknown_name("step", name, _STEPS)
    return _STEPS[name]
