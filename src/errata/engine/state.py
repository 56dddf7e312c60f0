"""All that a resumed run needs, as tensors and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["restore", "state_of"]


def state_of(run: TrainingRun) -> dict[str, Any]:
    """Give the state of a run after a finished epoch."""
    return {
        "stage": run.stage_index,
        "epoch": run.epoch,
        "tick": [run.tick, run.stage_tick],
        "seconds": [run.seconds, run.cpu_seconds],
        "notes": run.notes,
        "warnings": run.warnings,
        "history": run.history,
        "memory": run.memory,
        "nets": [net.state_dict() for net in run.nets],
        "losses": [loss.state_dict() for loss in run.losses],
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "ledger": run.ledger.state(),
    }


def restore(run: TrainingRun, state: Mapping[str, Any]) -> None:
    """Make a fresh run stand where a saved one stood."""
    # Stages are set up with what was remembered, then everything they made is replaced.
    memory = {name: tensor.to(run.device) for name, tensor in state["memory"].items()}
    run.memory.update(memory)
    for index in range(state["stage"] + 1):
        run.enter_stage(index)
    run.memory.clear()
    run.memory.update(memory)
    for net, saved in zip(run.nets, state["nets"], strict=True):
        net.load_state_dict(saved)
    for loss, saved in zip(run.losses, state["losses"], strict=True):
        loss.load_state_dict(saved)
    for optimizer, saved in zip(run.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    run.ledger.load_state(state["ledger"])
    run.tick, run.stage_tick = state["tick"]
    run.seconds, run.cpu_seconds = state["seconds"]
    run.notes, run.warnings = dict(state["notes"]), list(state["warnings"])
    run.history = list(state["history"])
    run.first_epoch = state["epoch"] + 1
    run.epoch = state["epoch"]
