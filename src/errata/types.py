"""The values that travel through training, and the protocols that parts and sources meet.

Shapes: B batch, N training rows, C classes, D feature width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from errata.errors import SettingsError

if TYPE_CHECKING:
    from errata.ledger import Ledger

__all__ = [
    "Batch",
    "Group",
    "Lap",
    "Moment",
    "Order",
    "Plan",
    "Pool",
    "Run",
    "Seen",
    "Source",
    "Trusted",
    "epoch_of",
]

UNLABELLED = -1
Moment = int | str
"""A point of training: an epoch (``24``, ``"24ep"``) or a share of the stage (``"40%"``)."""

Order = Literal["shuffle", "class_balanced", "weighted"]
Pool = Literal["train", "trusted"]


def epoch_of(moment: Moment, epochs: int) -> int:
    """Turn a moment into the index of an epoch of a stage with `epochs` epochs.

    Example:
        >>> epoch_of("40%", 60), epoch_of("24ep", 60), epoch_of(24, 60)
        (24, 24, 24)

    Raises:
        SettingsError: The text is neither an epoch nor a share of 0 to 100 %.
    """
    text = str(moment).strip()
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            if not 0 <= percent <= 100:
                raise ValueError
            # Multiplied first: 29 / 100 * 100 is a little less than 29 in floating point.
            return int(percent * epochs / 100)
        return int(text.removesuffix("ep"))
    except ValueError:
        raise SettingsError(
            f"moment `{moment}` is not a point of training; allowed: an epoch (`24`, `24ep`) "
            "or a share (`40%`)",
            hint="write for example `40%`",
        ) from None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step trains on. Parts return changed copies; nobody edits a batch in place."""

    rows: Int[Tensor, " B"]
    """Positions in the ledger."""
    views: tuple[Tensor, ...]
    """One tensor ``[B, ...]`` per augmented view."""
    given: Int[Tensor, " B"]
    """Labels as delivered; no part may change them."""
    target: Float[Tensor, "B C"]
    """What the loss is asked to believe; the mass of a row is its weight, so it need not be 1."""
    weight: Float[Tensor, " B"]
    group: Int[Tensor, " B"]
    """Which group of the lap a row was drawn from."""
    pure: bool = True
    """True while every view shows exactly one row; parts that mix rows set it to False."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one net made of one batch."""

    batch: Batch
    plain: Batch
    """The batch as drawn, before any part changed it."""
    logits: Float[Tensor, "B C"]
    features: Float[Tensor, "B D"] | None
    """Input of the head, or None where the net has none that could be found."""
    matrix: Float[Tensor, "B C"]
    """The loss each class would cost."""
    losses: Float[Tensor, " B"]
    """``(matrix * target).sum(1)``."""


@dataclass(frozen=True, slots=True)
class Group:
    """A set of rows and the order in which a lap draws them."""

    rows: Int[Tensor, " n"]
    order: Order = "shuffle"
    weights: Float[Tensor, " n"] | None = None


@dataclass(frozen=True, slots=True)
class Lap:
    """One pass: which nets learn, and the groups that every batch takes one draw from each."""

    nets: tuple[int, ...]
    groups: tuple[Group, ...]
    pool: Pool = "train"
    """Which samples the rows of the groups count. The ledger has no rows for trusted ones, so
    neither parts nor observers are told of such a step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows each net sees in one epoch."""

    laps: tuple[Lap, ...]

    def keep(self, mask: Bool[Tensor, " N"]) -> Plan:
        """Leave out the training rows where `mask` [N] is False."""
        return Plan(
            tuple(
                replace(lap, groups=tuple(_keep_rows(group, mask) for group in lap.groups))
                if lap.pool == "train"
                else lap
                for lap in self.laps
            )
        )

    def digest(self) -> str:
        """Name the plan by its content, so that ranks can compare theirs before they use it."""
        hasher = hashlib.blake2b(digest_size=8)
        for lap in self.laps:
            hasher.update(repr((lap.nets, lap.pool)).encode())
            for group in lap.groups:
                hasher.update(group.order.encode())
                hasher.update(group.rows.cpu().numpy().tobytes())
                if group.weights is not None:
                    hasher.update(group.weights.cpu().numpy().tobytes())
        return hasher.hexdigest()


def _keep_rows(group: Group, mask: Tensor) -> Group:
    kept = mask.to(group.rows.device)[group.rows]
    weights = None if group.weights is None else group.weights[kept]
    return replace(group, rows=group.rows[kept], weights=weights)


@runtime_checkable
class Source(Protocol):
    """Labelled samples, addressed by row. Nothing here can tell which labels are right."""

    @property
    def name(self) -> str:
        """How people refer to it: ``digits``, a path, ``fashion-mnist:DIR``."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The user's key of every row."""
        ...

    @property
    def given(self) -> np.ndarray:
        """[N] int64 class numbers; -1 is unlabelled."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample as `pixels` gives it: (channels, height, width) or (width,)."""
        ...

    @property
    def in_memory(self) -> bool:
        """True where `pixels` only copies; False where it decodes files, as workers then do."""
        ...

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Samples [B, *shape] of these rows: uint8 0 to 255 for pictures, else float32."""
        ...

    def show(self, row: int) -> bytes:
        """Show one row to a person: a PNG file, or ``b""`` where it is no picture."""
        ...


class Trusted(Protocol):
    """Samples whose labels people vouch for.

    Those of ``--clean``, outside the training set, or else the rows found right (``--verified``).
    """

    @property
    def given(self) -> Tensor:
        """[M] int64 on the training device."""
        ...

    def draw(self, count: int, name: str) -> Batch:
        """Draw a batch without ledger rows, augmented, from the stream of this name."""
        ...

    def sweep(self, net: int) -> tuple[Tensor, Tensor | None]:
        """Run a net in evaluation mode, without augmentation: logits [M, C], features [M, D]."""
        ...


class Run(Protocol):
    """What a part may ask of the training run. Nothing reachable from here knows the truth."""

    @property
    def ledger(self) -> Ledger:
        """The record of every sample."""
        ...

    @property
    def classes(self) -> int:
        """How many classes there are."""
        ...

    @property
    def num_rows(self) -> int:
        """How many samples there are."""
        ...

    @property
    def given(self) -> Tensor:
        """[N] int64 on the training device."""
        ...

    @property
    def nets(self) -> Sequence[nn.Module]:
        """The networks of this stage."""
        ...

    @property
    def losses(self) -> Sequence[nn.Module]:
        """The loss of each net."""
        ...

    @property
    def memory(self) -> dict[str, Tensor]:
        """Tensors that outlive their stage, such as an estimated transition matrix.

        Saved with the run, and written beside the ledger of an audit.
        """
        ...

    @property
    def trusted(self) -> Trusted | None:
        """The trusted samples, or None where the user gave none."""
        ...

    @property
    def verified(self) -> Tensor | None:
        """[N] int64: 1 where a person found the given label right, 0 wrong, -1 unknown; or None."""
        ...

    @property
    def epoch(self) -> int:
        """Index of the running epoch within its stage."""
        ...

    @property
    def epochs(self) -> int:
        """Epochs of the running stage."""
        ...

    @property
    def lr(self) -> float:
        """Learning rate of the nets at this step."""
        ...

    @property
    def tick(self) -> int:
        """Steps taken since the start; the stamp of ledger writes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        ...

    def stream(self, name: str) -> torch.Generator:
        """Give a CPU generator that depends on (seed, stage, epoch, step, name) alone."""
        ...

    def head(self, net: int) -> nn.Linear:
        """Give the last linear layer of a net, or fail with the reason it has none."""
        ...

    def sweep(self, net: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run the net in evaluation mode without augmentation: logits [n, C], features [n, D]."""
        ...

    def note(self, name: str, **values: float | int | str) -> None:
        """Record a fact of this run for the log, the summary and the report."""
        ...

    def warn(self, message: str) -> None:
        """Warn the user once: in the log, the summary and the report."""
        ...

    def unmixed(self, net: int, seen: Mapping[int, Seen]) -> Tensor:
        """Logits [B, C] of the batch as drawn, in training mode, without any change of state."""
        ...
