"""What training predicted of every row, epoch by epoch: the raw material of noise models.

Shapes: B batch, N training rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from errata.errors import SettingsError
from errata.ledger import standard
from errata.observe.base import Observer
from errata.observe.track import Track
from errata.types import Seen

if TYPE_CHECKING:
    from errata.engine.run import TrainingRun

__all__ = ["Trajectory", "View", "trajectory_bytes", "view_of"]


class View(NamedTuple):
    """What one forward pass says of a batch and its labels."""

    label_prob: Float[Tensor, " B"]
    """Probability of the label, 0 to 1."""
    other_prob: Float[Tensor, " B"]
    """Highest probability of another class, 0 to 1."""
    argmax: Int[Tensor, " B"]
    """Class with the highest logit."""
    loss: Float[Tensor, " B"]
    """Cross-entropy [nats] of the label."""
    correct: Bool[Tensor, " B"]
    """Whether the label has the highest logit."""


def view_of(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> View:
    """Say what logits [B, C] make of labels [B].

    Example:
        >>> view = view_of(torch.tensor([[3.0, 0.0, 3.0 - 1e-4]]).log(), torch.tensor([2]))
        >>> view.label_prob.round(decimals=2), view.other_prob.round(decimals=2), view.correct
        (tensor([0.5000]), tensor([0.5000]), tensor([False]))
    """
    log_probs = logits.log_softmax(1)
    top = log_probs.topk(2, dim=1)
    argmax = top.indices[:, 0]
    correct = argmax == labels
    own = log_probs.gather(1, labels[:, None])[:, 0]
    rival = torch.where(correct, top.values[:, 1], top.values[:, 0])
    return View(own.exp(), rival.exp(), argmax, -own, correct)


def trajectory_bytes(rows: int, epochs: int) -> int:
    """Give the memory that `Trajectory` takes: 9 bytes for each row and epoch.

    Two each for the probabilities, the predicted class and the loss, one for correctness.

    Example:
        >>> trajectory_bytes(1_000_000, 100) / 1e9
        0.9
    """
    return 9 * rows * epochs


@dataclass
class Trajectory(Observer):
    """Keeps, per row and epoch: p(given), highest other p, predicted class, loss, correctness.

    Optional: the features of `errata.detect.trajectory` need only what `Track` keeps, and use these
    curves where they exist. They take 9 bytes for each row and epoch, so a million rows and 100
    epochs are 0.9 GB. The loss is left to `Track` where that keeps it; list `Track` first. Where a
    part mixes rows, the same rule as in `Track` says when a row is looked at.

    Attributes:
        keep: Newest epochs kept, at least 1; 0 keeps all.
        most_mb: Largest size of all curves together, in MB.
        every: Epochs between two looks while rows are mixed.
    """

    keep: int = 0
    most_mb: int = 1024
    every: int = 5

    def __post_init__(self) -> None:
        for name, least in (("keep", 0), ("most_mb", 1), ("every", 1)):
            value = getattr(self, name)
            if value < least:
                raise SettingsError(
                    f"trajectory {name} `{value}` is out of range; allowed: {least} and above",
                    hint=f"leave `{name}` out for the default",
                )

    def open(self, run: TrainingRun) -> None:
        """Add the curves.

        Raises:
            SettingsError: They outgrow `most_mb`, or a `Track` that keeps losses comes later.
        """
        epochs = sum(stage.epochs for stage in run.program)
        length = min(self.keep, epochs) if self.keep else epochs
        size = trajectory_bytes(run.num_rows, length)
        if size > self.most_mb * 2**20:
            fitting = self.most_mb * 2**20 // trajectory_bytes(run.num_rows, 1)
            raise SettingsError(
                f"trajectories of {run.num_rows} rows and {length} epochs take "
                f"`{size / 2**20:.0f}` MB; allowed: most_mb={self.most_mb}",
                hint=f"keep the newest epochs with `keep={fitting}`, or raise `most_mb`"
                if fitting
                else "raise `most_mb`, or train on fewer rows",
            )
        place = [observer is self for observer in run.observers].index(True)
        if any(isinstance(other, Track) and other.curve for other in run.observers[place:]):
            raise SettingsError(
                "observer `Trajectory` stands before `Track`, and both keep losses; allowed: after",
                hint="write observers=(Track(), Trajectory())",
            )
        names = ["label_prob_curve", "other_prob_curve", "argmax_curve", "correct_curve"]
        if not run.ledger.has("loss_curve"):
            names.append("loss_curve")
        wide = run.classes > torch.iinfo(torch.int16).max
        for name in names:
            dtype = torch.int32 if wide and name == "argmax_curve" else None
            run.ledger.add("trajectory", standard(name, keep=length, dtype=dtype))

    @torch.no_grad()
    def step(self, run: TrainingRun, seen: Mapping[int, Seen]) -> None:
        """Write what one batch showed the first net."""
        if 0 not in seen:
            return
        every = min(self.every, run.epochs)
        if not run.has_unmixed(0, seen) and run.epoch % every != every - 1:
            return
        batch, ledger = seen[0].plain, run.ledger
        view = view_of(run.unmixed(0, seen), batch.given)
        ledger.write("label_prob_curve", batch.rows, view.label_prob, stamp=run.tick)
        ledger.write("other_prob_curve", batch.rows, view.other_prob, stamp=run.tick)
        ledger.write("argmax_curve", batch.rows, view.argmax, stamp=run.tick)
        ledger.write("correct_curve", batch.rows, view.correct, stamp=run.tick)
        if ledger.owner("loss_curve") == "trajectory":
            ledger.write("loss_curve", batch.rows, view.loss, stamp=run.tick)
